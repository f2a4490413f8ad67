// How often the verdict rule is wrong on this machine, from samples that were recorded on it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/runtime/comparison.h"
#include "kvlab/runtime/rates.h"

namespace kvlab {

/// Times of runs of the same code, in the order they were measured.
struct RecordedTimes {
  std::vector<double> ns;
  std::vector<bool> contended;  ///< one per time
  std::string what;             ///< "prompt 16, batch 1: none, none_again"
};

/// Reads the `samples.jsonl` of a run: the times of `arm` and of its second measurement
/// (`<arm>_again`), of the first case of the file. Without `arm`: of the first arm that has one.
/// Throws UserError where the file cannot be read, there are no such samples, or a time is not
/// positive.
RecordedTimes read_recorded_times(const std::string& samples_file, const std::string& arm = "");

/// The most blocks of a comparison that can be simulated from `times`: each takes three of them.
int most_blocks(const RecordedTimes& times);

struct PowerOptions {
  int blocks = 40;         ///< of each simulated comparison
  int trials = 200;
  double slowdown = 1.05;  ///< planted: the arm's times are multiplied by it
  std::uint64_t seed = 1;
  ComparisonOptions comparison;
};

struct Power {
  Rate false_alarms;  ///< the same code called faster or slower
  Rate found;         ///< the planted slowdown called slower
  Rate refused;       ///< comparisons without a verdict
};

/// Takes a contiguous stretch of the recording for each trial, so that its drifts and phases stay
/// as they were. Three neighbours are a block: the control, the control again and an arm, in random
/// order. The arm is judged by `compare_with_control` as it is, and once more slowed down. Throws
/// UserError where the recording is shorter than one trial.
Power simulate_power(const RecordedTimes& times, const PowerOptions& options = {});

}  // namespace kvlab

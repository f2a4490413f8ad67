// What the samples and gates of a run say, before it becomes tables, figures and sentences.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "benchmark_report.h"
#include "kvlab/runtime/comparison.h"
#include "kvlab/runtime/step_bound.h"

namespace kvlab::experiments {

inline constexpr double kMillion = 1e6;

/// The steps of an arm beside the time that reading their bytes takes.
struct FloorFinding {
  double floor_ms = 0;          ///< median over blocks
  std::vector<double> shares;   ///< floor over time of a step, block by block
};

/// A value of every sample.
std::vector<double> collect(const std::vector<Sample>& samples, auto&& value) {
  std::vector<double> values;
  for (const Sample& sample : samples) values.push_back(value(sample));
  return values;
}

/// Arms and cases are numbered as in the run. All references must outlive the findings.
class Findings {
 public:
  /// Judges all arms of all cases, as one family of tests.
  Findings(const BenchmarkConfig& config, const std::vector<CaseResult>& cases,
           const std::vector<Arm>& arms, size_t control);

  const BenchmarkConfig& config() const { return config_; }
  const std::vector<CaseResult>& cases() const { return cases_; }
  const std::vector<Arm>& arms() const { return arms_; }
  size_t control() const { return control_; }
  const std::string& name(size_t arm) const { return arms_[arm].config.name; }
  const std::vector<Sample>& samples(size_t arm, size_t i) const { return arms_[arm].samples[i]; }

  /// The control measured a second time: no arm of its own.
  bool is_second_control(size_t arm) const { return arm == again_; }
  std::optional<size_t> second_control() const { return again_; }

  /// Speed is shown only for arms that ran and passed their gate.
  bool shown(size_t arm, size_t i) const;

  /// Speed of an arm over another one's, by the primary metric.
  RatioInterval ratio(size_t arm, size_t against, size_t i) const;

  /// Median speed in tokens per second.
  double speed(size_t arm, size_t i) const;

  /// Nothing for the control, its second measurement, and where either has no speed.
  const Comparison* comparison(size_t arm, size_t i) const;

  /// The control against itself; nothing where it was not measured twice.
  std::optional<RatioInterval> noise(size_t i) const;

  /// An arm against another one, by the primary metric and the rule of all verdicts. Not one of the
  /// run's family of tests.
  Comparison judge(size_t arm, size_t against, size_t i) const;

  /// The fastest arm by the primary metric and the next one, judged; nothing below two arms.
  struct Lead {
    size_t first = 0, second = 0;
    Comparison found;  ///< of the first against the second
  };
  std::optional<Lead> lead(size_t i) const;

  /// The fastest arm by the primary metric, where the rule finds it faster than the runner-up.
  std::optional<size_t> clear_winner(size_t i) const;

  int64_t contended(size_t arm, size_t i) const;

  /// Where the time of decode steps went, over all blocks; nothing where there was no such step.
  std::optional<StepShares> shares(size_t arm, size_t i) const;

  /// Median time of a decode step over the blocks, in ms; nothing where there was no such step.
  std::optional<double> step_ms(size_t arm, size_t i) const;

  /// Time of a decode step's attention and cache, in the mean over all blocks, in ms.
  double attention_and_cache_ms(size_t arm, size_t i) const;

  /// Nothing where the bandwidth was not measured and for an arm that reads no K and V: it
  /// recomputes, and its bytes are no floor.
  std::optional<FloorFinding> floor(size_t arm, size_t i) const;

  /// Read bandwidth beside the blocks, in bytes per second; empty where it was not measured.
  std::vector<double> bandwidths(size_t i) const;

  /// What an arm that saves memory saves it against: the control, or, where that holds nothing, the
  /// arm that holds most. Nothing where no arm holds anything.
  std::optional<size_t> memory_reference(size_t i) const;

  /// Tokens that the rows stand for at the end; the last new one is never fed.
  int64_t held_tokens(size_t arm, size_t i) const;

  /// Total time of the control over that of the arm until `n` tokens were out, by block.
  RatioInterval time_ratio(size_t arm, size_t i, int64_t n) const;

  /// Whether every block has `n` tokens.
  bool reached(size_t arm, size_t i, int64_t n) const;

  /// The output length from which on the arm is faster in total in every block; of ten blocks or
  /// more nine in ten are enough. Nothing where the verdict does not allow it.
  std::optional<int64_t> usual_break_even(size_t arm, size_t i) const;

  /// "control", "equal", "approximate, KL 0.01", "NOT EQUAL", "failed".
  std::string equality(size_t arm, size_t i) const;

  /// What the arm's config has other than the control's, in words; empty for nothing.
  std::vector<std::string> differences(size_t arm) const;

  /// A file name that tells cases apart where there are several.
  std::string file_id(const char* what, size_t i) const;

 private:
  StepProfile profile(size_t arm, size_t i) const;
  PairedSpeeds paired(size_t arm, size_t against, size_t i) const;
  void compare();

  const BenchmarkConfig& config_;
  const std::vector<CaseResult>& cases_;
  const std::vector<Arm>& arms_;
  size_t control_;
  std::optional<size_t> again_;
  std::vector<std::vector<std::optional<Comparison>>> comparisons_;  // [case][arm]
  std::vector<std::optional<RatioInterval>> noise_;                  // [case]
};

}  // namespace kvlab::experiments

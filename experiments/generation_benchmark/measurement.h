// Running the arms in interleaved blocks, and what one run of one arm gives.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/arms.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/generator.h"
#include "workload.h"

namespace kvlab::experiments {

/// One run of one arm on one case.
struct Sample {
  GenerateResult result;
  int64_t setup_ns = 0;         ///< building the session, pre-faulting storage included
  MemoryUsage estimated;        ///< of the cache, before the run
  double fragmentation = 0;
  int64_t involuntary_switches = 0;

  int64_t total_ns() const { return result.ttft_ns + result.decode_ns(); }
  /// Time until `tokens` new tokens per row were out.
  int64_t elapsed_ns(int64_t tokens) const;
  /// Generated tokens of all rows per second, prefill included.
  double tokens_per_second() const;
};

/// An arm with its model (arms may replace the position encoding) and its traits.
struct Arm {
  ArmConfig config;
  const Model* model = nullptr;
  CacheTraits traits;
  std::vector<std::vector<Sample>> samples;  ///< per case, per block
  std::optional<std::string> failure;        ///< why it has no figures
};

/// Measures all arms on one case: warm-up, then blocks in which every arm runs once, in seeded
/// random order. An arm that throws gets a failure and is left out from then on. Appends one line
/// per run to the run's samples. Stops early where the user interrupts; whole blocks are kept.
void measure_case(const BenchmarkConfig& config, const Case& one, size_t case_index,
                  std::vector<Arm>& arms, RunContext& context);

}  // namespace kvlab::experiments

// What the benchmark's config says besides the shared parts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/runtime/arm_trials.h"
#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/prompt.h"
#include "kvlab/runtime/report_document.h"
#include "speed_metric.h"

namespace kvlab::experiments {

struct Workload {
  /// Prompts of each length, one per row of the largest batch.
  std::vector<std::vector<std::vector<int32_t>>> prompts;
  std::vector<int64_t> new_tokens;     ///< output lengths; the longest is run, others are prefixes
  std::vector<int64_t> batch;
  SamplerConfig sampler;
  std::vector<int32_t> stop_tokens;
  int64_t gate_tokens = 48;            ///< length of the text the equality gate compares

  int64_t longest_output() const;
};

/// One combination that all arms run.
struct Case {
  int64_t prompt_length = 0;
  int64_t batch = 1;
  std::vector<std::vector<int32_t>> prompts;  ///< one per row
  std::string label() const;                  ///< "prompt 4, batch 1"
};

/// Everything a run needs, read and checked.
struct BenchmarkConfig {
  ComparisonConfig shared;  ///< with the second control among its arms, where there is one
  ArmTrials trials;
  SpeedMetric primary;      ///< what verdicts are about
  Workload workload;
  std::vector<ReportReference> published;
};

/// Reads the whole config. Throws UserError.
BenchmarkConfig read_benchmark(ExperimentConfig& config);

/// The cases of a workload: prompt lengths times batches. Rows of a batch have different prompts of
/// one length.
std::vector<Case> make_cases(const Workload& workload);

}  // namespace kvlab::experiments

// From samples and gate verdicts to tables, figures and sentences.
#pragma once

#include <vector>

#include "equality_gate.h"
#include "kvlab/runtime/experiment.h"
#include "measurement.h"

namespace kvlab::experiments {

/// One case with what was found. `gate[i]` belongs to `arms[i]`.
struct CaseResult {
  Case one;
  std::vector<GateResult> gate;
  std::string why_no_bandwidth = {};  ///< empty where the read bandwidth was measured
};

/// Fills title, tables, figures, checks, conclusions, failures and metrics.
ExperimentResult make_report(const BenchmarkConfig& config, const std::vector<CaseResult>& cases,
                             const std::vector<Arm>& arms, size_t control);

/// Smallest output length from which on `arm` is faster than `control` in total, in tokens; nothing
/// where it is not faster at the longest length measured. Times are elapsed ns per output length,
/// index 0 for one token.
std::optional<int64_t> break_even(const std::vector<double>& arm_ns,
                                  const std::vector<double>& control_ns);

}  // namespace kvlab::experiments

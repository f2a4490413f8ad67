// No speed for an arm whose logits are not the control's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/equality.h"
#include "measurement.h"

namespace kvlab::experiments {

/// Verdict on one arm.
struct GateResult {
  bool exact_arm = true;    ///< its traits promise the control's answer
  bool same_numbers = true; ///< its cache has the control's dtype
  bool passed = true;       ///< always true for approximate arms: their distance is shown instead
  LogitComparison distance; ///< in the dtype of the run, at the run's own chunk size
  std::vector<ReportCheck> checks;
};

/// Teacher-forces the prompt and what the control made of it (at most `gate_tokens` tokens)
/// through every arm: once in chunks as the run does, once token by token. In f32 logits must be
/// within tolerance; in bf16 the cache's logic is gated with f32 numbers first, and then the mean KL
/// to the control must stay below a multiple of what bf16 itself costs.
std::vector<GateResult> gate_arms(const BenchmarkConfig& config, const Case& one,
                                  std::vector<Arm>& arms, size_t control, RunContext& context);

}  // namespace kvlab::experiments

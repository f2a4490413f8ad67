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
  bool exact_arm = true;     ///< its traits promise the control's answer
  bool same_numbers = true;  ///< its cache has the control's dtype
  bool passed = true;        ///< always true for approximate arms: their distance is shown instead
  LogitComparison distance;  ///< in the dtype of the run, at the run's own chunk size
  std::vector<ReportCheck> checks;

  /// The control's answer in the control's numbers: its KL is 0 but for rounding.
  bool lossless() const { return exact_arm && same_numbers; }

  /// How far the arm's answer is from the control's, in nats per token; 0 where it is lossless.
  double kl() const { return lossless() ? 0 : distance.mean_kl; }
};

/// The gate of one case: what the prompt and the control's continuation (at most `gate_tokens`
/// tokens) give in the control, and how far an arm is from it. Each arm is fed twice: in chunks as
/// the run does, and token by token. In f32 logits must be within tolerance; in bf16 the cache's
/// logic is gated with f32 numbers first, and then the mean KL to the control must stay below a
/// multiple of what bf16 itself costs.
class EqualityGate {
 public:
  /// Runs the control. Config, registry and the control's model must outlive the gate.
  EqualityGate(const BenchmarkConfig& config, const Case& one, const ReadyArm& control,
               const Registry& registry);

  /// Throws what the arm throws.
  GateResult judge(const ReadyArm& arm) const;

 private:
  SessionOptions options(const ReadyArm& arm, at::ScalarType dtype, int64_t chunk) const;
  LogitRecord record(const Model& model, at::ScalarType dtype) const;
  LogitComparison compare(const LogitRecord& control, const ReadyArm& arm, const Model& model,
                          at::ScalarType dtype, int64_t chunk) const;
  at::ScalarType cache_dtype(const ReadyArm& arm) const;

  const BenchmarkConfig& config_;
  const Registry& registry_;
  ReadyArm control_;
  std::vector<std::vector<int32_t>> texts_;
  int64_t longest_ = 0;
  bool full_precision_;
  LogitRecord own_;  // in the dtypes of the run
  // In reduced precision: the same in f32, and how far bf16 alone leads away from it.
  std::optional<Model> exact_model_;
  std::optional<LogitRecord> exact_;
  double bf16_divergence_ = 0;
};

}  // namespace kvlab::experiments

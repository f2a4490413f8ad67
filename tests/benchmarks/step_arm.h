// Decode steps of a whole session at one depth.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kvlab/model/decoder_workspace.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/registry.h"
#include "kvlab/runtime/session.h"

namespace kvlab::benchmarks {

/// 12 layers of width 128, 4 heads of 32, 256 tokens: so little arithmetic that a step costs what
/// its calls cost.
Model tiny_model();

/// A fifth of SmolLM2-135M: 6 of its 30 layers and a fifth of its vocabulary, in SmolLM2's shapes.
/// The shares of a step are those of the whole model.
Model fifth_of_smollm2();

/// Repeats one step: a token at `depth`, which is taken back afterwards. Preallocated cache,
/// `fused` attention.
class StepArm {
 public:
  /// `row_tokens`: see RuntimeConfig.
  StepArm(const Model& model, const Registry& registry, int64_t depth, int64_t row_tokens);

  /// One step. Returns its seconds, without taking back.
  double run();

  /// The last step's logits.
  const std::vector<float>& logits() const { return logits_; }

  /// Share of the time of `steps` steps that was spent in the cache: begin_step, append, view,
  /// end_step.
  double cache_share(int steps);

 private:
  Session session_;
  std::vector<int32_t> text_;
  std::vector<float> logits_;
};

/// Throws unless both arms give the same logits, within 1e-5 of the largest.
void check_equal_logits(StepArm& first, StepArm& second);

}  // namespace kvlab::benchmarks

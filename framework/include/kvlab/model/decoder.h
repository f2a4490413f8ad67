// The decoder: one pre-norm stack that runs GPT-2 and Llama shapes over any cache, attention and
// position plugin.
#pragma once

#include <ATen/core/Tensor.h>

#include "kvlab/attention/attention.h"
#include "kvlab/cache/kv_cache.h"
#include "kvlab/core/step_plan.h"
#include "kvlab/model/model_config.h"
#include "kvlab/model/weights.h"

namespace kvlab {

/// What one step of a decoder works with. Borrowed for the call.
struct StepContext {
  const StepPlan& plan;
  KVCache& cache;              ///< between its begin_step and end_step
  at::ScalarType cache_dtype;  ///< k and v are cast to it once
  Attention& attention;
  const PositionEncoding& position;
  StorageArena& scratch;
};

class Decoder {
 public:
  /// Takes weights in any of f32 and bf16; activations run in `activations`. Throws UserError where
  /// the weights do not fit the config.
  Decoder(ModelConfig config, DecoderWeights weights, at::ScalarType activations);

  const ModelConfig& config() const { return config_; }
  const DecoderWeights& weights() const { return weights_; }
  at::ScalarType activations() const { return activations_; }

  /// Runs the plan's N tokens through all layers; appends to and reads from the cache. Returns the
  /// normalised hidden states [W,d] of the W wanted tokens, in the plan's order. Throws UserError
  /// for a token outside the vocabulary.
  at::Tensor forward(const StepContext& context) const;

  /// Logits [W,V] in fp32 of such hidden states.
  at::Tensor logits(const at::Tensor& hidden) const;

 private:
  at::Tensor embed(const StepContext& context, const at::Tensor& positions) const;
  at::Tensor attend(const StepContext& context, int64_t layer, const at::Tensor& x,
                    const at::Tensor& rotary) const;
  at::Tensor feed_forward(const LayerWeights& layer, const at::Tensor& x) const;
  at::Tensor normalise(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) const;

  ModelConfig config_;
  DecoderWeights weights_;
  at::ScalarType activations_;
};

}  // namespace kvlab

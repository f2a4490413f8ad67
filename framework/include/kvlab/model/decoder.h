// The decoder: one pre-norm stack that runs GPT-2 and Llama shapes over any cache, attention and
// position plugin.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "kvlab/attention/attention.h"
#include "kvlab/cache/kv_cache.h"
#include "kvlab/core/step_plan.h"
#include "kvlab/core/thread_pool.h"
#include "kvlab/model/decoder_workspace.h"
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
  DecoderWorkspace& workspace;
  ThreadPool& threads;
  /// Products of up to this many packed tokens run on the row kernels, larger ones on the library's.
  int64_t row_tokens = 16;
  StepProfile* profile = nullptr;  ///< adds up where the time goes; null: not measured
};

class Decoder {
 public:
  /// Takes weights in f32, bf16 or int8 codes. Activations are computed in fp32 and, where `activations`
  /// is bf16, rounded to it after every operation. Throws UserError where the weights do not fit the
  /// config.
  Decoder(ModelConfig config, DecoderWeights weights, at::ScalarType activations);

  const ModelConfig& config() const { return config_; }
  const DecoderWeights& weights() const { return weights_; }
  at::ScalarType activations() const { return activations_; }

  /// Runs the plan's N tokens through all layers; appends to and reads from the cache. Returns the
  /// normalised hidden states [W,d] (fp32) of the W wanted tokens, in the plan's order. They lie in
  /// the workspace and are valid until the next `forward`. Throws UserError for a token outside the
  /// vocabulary.
  at::Tensor forward(const StepContext& context) const;

  /// Logits [W,V] in fp32 of such hidden states, in the workspace as well: valid until the next `logits`.
  at::Tensor logits(const StepContext& context, const at::Tensor& hidden) const;

 private:
  struct Plan;  // the weights as kernels read them

  void embed(const StepContext& context) const;
  void attend(const StepContext& context, size_t layer) const;
  void feed_forward(const StepContext& context, size_t layer) const;

  ModelConfig config_;
  DecoderWeights weights_;
  at::ScalarType activations_;
  std::shared_ptr<const Plan> plan_;
};

}  // namespace kvlab

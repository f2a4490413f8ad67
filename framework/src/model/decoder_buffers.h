// What a decoder's workspace holds.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kvlab/attention/feedback.h"
#include "kvlab/kernels/linear.h"
#include "kvlab/model/decoder_workspace.h"
#include "kvlab/model/model_config.h"

namespace kvlab {

/// A buffer of fp32 numbers that only grows.
class GrowingBuffer {
 public:
  /// At least `count` floats; what was in them may be gone.
  float* need(int64_t count);
  int64_t bytes() const;

 private:
  at::Tensor memory_;
};

/// The projections of one layer, as the cache and attention get them. They outlive the layer: a
/// cache may borrow keys and values until the step ends.
struct Projections {
  at::Tensor query;       ///< [N,H,D] in fp32
  at::Tensor key, value;  ///< [N,G,D] in fp32
  at::Tensor cache_key, cache_value;  ///< [N,G,D] in the cache's dtype; the same where that is fp32
  float* data = nullptr;              ///< [N, (H+2G)*D]: rows of query, key, value
  void* cache_data = nullptr;         ///< [N, 2*G*D] where the cache's dtype is another, else null
};

struct DecoderBuffers {
  /// Makes everything fit for a step of `tokens` tokens. Steps of few tokens have planned
  /// projections for every layer, larger ones get fresh ones from `projections`.
  void begin_step(const ModelConfig& config, int64_t tokens, at::ScalarType cache_dtype);

  /// The buffers of `layer` for this step.
  Projections& projections(size_t layer);

  GrowingBuffer x, normal, mixed, inner, hidden, logits;  // rows of d, d, H*D, m, d, V
  GrowingBuffer wide, decoded;                            // of the library's products
  at::Tensor positions, rotary;                           ///< int64 [N]
  at::Tensor embedding;                                   ///< x as [N,d]
  at::Tensor attended;                                    ///< mixed as [N,H,D]
  kernels::LinearScratch linear;
  FeedbackBuffer feedback;

  int64_t bytes() const;

 private:
  void plan_projections(int64_t tokens);

  at::Tensor row_numbers_, planned_, planned_cache_;
  std::vector<Projections> layers_;
  Projections fresh_;
  const ModelConfig* config_ = nullptr;
  int64_t tokens_ = -1, planned_tokens_ = 0;
  at::ScalarType cache_dtype_ = at::kFloat;
};

}  // namespace kvlab

// The tensors of a decoder, in one layout for every checkpoint format.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kvlab/model/model_config.h"

namespace kvlab {

/// Linear weights are [out, in]. Absent tensors are undefined (`defined()` is false).
struct LayerWeights {
  at::Tensor attention_norm, attention_norm_bias;  ///< [d]
  at::Tensor qkv, qkv_bias;          ///< [(H+2G)*D, d]: query rows, then key rows, then value rows
  at::Tensor output, output_bias;    ///< [d, H*D]
  at::Tensor mlp_norm, mlp_norm_bias;
  at::Tensor up, up_bias;            ///< [m, d]; swiglu: [2m, d], gate rows then up rows
  at::Tensor down, down_bias;        ///< [d, m]
};

struct DecoderWeights {
  at::Tensor token_embedding;  ///< [V, d]
  at::Tensor position_table;   ///< [context, d], only for learned positions
  std::vector<LayerWeights> layers;
  at::Tensor final_norm, final_norm_bias;
  at::Tensor head;             ///< [V, d]; the same tensor as token_embedding where tied

  /// Bytes of all distinct tensors.
  int64_t bytes() const;

  /// Casts every tensor; ties stay ties.
  void cast(at::ScalarType type);

  /// Throws UserError naming the first tensor that is missing, not in `config`, not contiguous, or
  /// of another shape or type than the rest, and where a head that `config` ties is not tied.
  void validate(const ModelConfig& config) const;
};

/// Seeded random weights in LibTorch's default initialisation, drawn in this order: token
/// embedding, position table (learned positions only), then per layer q, k, v, output, MLP
/// (gate, up, down), then the head where it is free; each linear layer draws its weight, then its
/// bias. With GPT-2-124M's shape, no q/k/v biases, a free head and seed 123 this is the golden
/// model of tests/golden. Uses a generator of its own: LibTorch's global random state stays.
DecoderWeights random_weights(const ModelConfig& config, uint64_t seed);

}  // namespace kvlab

// The tensors of a decoder, in one layout for every checkpoint format.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kvlab/model/model_config.h"

namespace kvlab {

/// Linear weights are [out, in]. Absent tensors are undefined (`defined()` is false). The scales are
/// there only for int8 weights: bf16 [out, ceil(in / 32)], see kernels/linear.h.
struct LayerWeights {
  at::Tensor attention_norm, attention_norm_bias;  ///< [d]
  at::Tensor qkv, qkv_bias;          ///< [(H+2G)*D, d]: query rows, then key rows, then value rows
  at::Tensor output, output_bias;    ///< [d, H*D]
  at::Tensor mlp_norm, mlp_norm_bias;
  at::Tensor up, up_bias;            ///< [m, d]; swiglu: [2m, d], gate rows then up rows
  at::Tensor down, down_bias;        ///< [d, m]
  at::Tensor qkv_scales, output_scales, up_scales, down_scales;
};

struct DecoderWeights {
  at::Tensor token_embedding;  ///< [V, d]
  at::Tensor position_table;   ///< [context, d], only for learned positions
  std::vector<LayerWeights> layers;
  at::Tensor final_norm, final_norm_bias;
  at::Tensor head;             ///< [V, d]; the same tensor as token_embedding where tied
  at::Tensor token_embedding_scales, head_scales;  ///< the same tensor where tied

  /// Bytes of all distinct tensors.
  int64_t bytes() const;

  /// Bytes that a decode step of one token streams from memory: the linear weights of all layers and
  /// the head, with their scales. The embedding counts only as the head it is tied to.
  int64_t streamed_bytes() const;

  /// Casts every tensor; ties stay ties. kChar: linear weights and embeddings become int8 codes with
  /// scales; norms, biases and the position table become fp32. Weights that are codes already can
  /// only be cast to kChar.
  void cast(at::ScalarType type);

  /// Moves every tensor to memory that the system is advised to map in huge pages, and touches it.
  /// Holds one tensor twice for a moment. Tensors below a huge page stay where they are.
  void use_huge_pages();

  /// What the linear weights are: kFloat, kBFloat16 or kChar.
  at::ScalarType type() const { return token_embedding.scalar_type(); }

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

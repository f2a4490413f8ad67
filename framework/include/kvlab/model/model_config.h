// The shape of a decoder: what a model YAML, a config.json or GGUF metadata says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/core/component.h"

namespace kvlab {

enum class NormType { layernorm, rmsnorm };
enum class MlpType { gelu_tanh, gelu_erf, swiglu };

/// One configurable pre-norm decoder. Axis letters: L layers, H query heads, G KV heads,
/// D head dim, V vocabulary.
struct ModelConfig {
  std::string name;
  int64_t vocabulary = 0;   ///< V
  int64_t context = 0;      ///< longest text, in tokens
  int64_t d_model = 0;
  int64_t layers = 0;       ///< L
  int64_t n_heads = 0;      ///< H
  int64_t n_kv_heads = 0;   ///< G, divides H
  int64_t head_dim = 0;     ///< D
  int64_t d_mlp = 0;        ///< inner width of the MLP
  NormType norm = NormType::layernorm;
  double norm_epsilon = 1e-5;
  MlpType mlp = MlpType::gelu_tanh;
  bool qkv_bias = true;
  bool output_bias = true;  ///< of the attention's output projection
  bool mlp_bias = true;
  bool tied_head = true;    ///< the head is the token embedding
  int64_t window = 0;       ///< sliding window in tokens including the current one; 0 = none
  ComponentSpec position;   ///< {type: learned}, {type: rope, theta: 10000}, ...
  std::vector<int32_t> stop_tokens;  ///< end of text, as the checkpoint says

  int64_t group() const { return n_heads / n_kv_heads; }

  /// Throws UserError naming the first value that cannot be (zero sizes, H % G, odd D with rope).
  void validate() const;

  /// Parameters of the whole model, counted from the shape. The learned position table counts.
  int64_t parameters() const;
};

}  // namespace kvlab

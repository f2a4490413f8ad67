#include "kvlab/model/model_config.h"

#include <cmath>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// Bounds far above every known decoder; below them no size of a tensor overflows.
constexpr int64_t kLargestSize = int64_t{1} << 24;
constexpr int64_t kMostLayers = 1024;

struct Size {
  const char* name;
  int64_t value;
  int64_t largest;
};

}  // namespace

void ModelConfig::validate() const {
  const std::string where = "[model.config] " + (name.empty() ? "" : name + ": ");
  for (const Size& size :
       {Size{"vocabulary", vocabulary, kLargestSize}, Size{"context", context, kLargestSize},
        Size{"d_model", d_model, kLargestSize}, Size{"layers", layers, kMostLayers},
        Size{"n_heads", n_heads, kLargestSize}, Size{"n_kv_heads", n_kv_heads, kLargestSize},
        Size{"head_dim", head_dim, kLargestSize}, Size{"d_mlp", d_mlp, kLargestSize}}) {
    KVLAB_CHECK_GE(size.value, 1, where, size.name);
    KVLAB_CHECK_LE(size.value, size.largest, where, size.name);
  }
  KVLAB_CHECK_LE(n_heads * head_dim, kLargestSize, where, "n_heads * head_dim");
  KVLAB_CHECK_LE(n_kv_heads, n_heads, where, "n_kv_heads");
  KVLAB_CHECK(n_heads % n_kv_heads == 0, where, "n_heads must be a multiple of n_kv_heads, got ",
              n_heads, " and ", n_kv_heads);
  KVLAB_CHECK(std::isfinite(norm_epsilon) && norm_epsilon > 0, where,
              "norm_epsilon must be a positive number, got ", norm_epsilon);
  KVLAB_CHECK_GE(window, 0, where, "window");
  KVLAB_CHECK(!position.type.empty(), where, "position names no encoding");
  KVLAB_CHECK(position.type != "rope" || head_dim % 2 == 0, where,
              "rope rotates pairs, so head_dim must be even, got ", head_dim);
  for (const int32_t token : stop_tokens) {
    KVLAB_CHECK(token >= 0 && token < vocabulary, where, "stop token ", token,
                " is outside the vocabulary of ", vocabulary);
  }
}

int64_t ModelConfig::parameters() const {
  const int64_t norm_size = norm == NormType::layernorm ? 2 * d_model : d_model;
  const int64_t qkv_rows = (n_heads + 2 * n_kv_heads) * head_dim;
  const int64_t up_rows = mlp == MlpType::swiglu ? 2 * d_mlp : d_mlp;
  const int64_t layer = 2 * norm_size + qkv_rows * (d_model + (qkv_bias ? 1 : 0)) +
                        d_model * (n_heads * head_dim + (output_bias ? 1 : 0)) +
                        up_rows * (d_model + (mlp_bias ? 1 : 0)) +
                        d_model * (d_mlp + (mlp_bias ? 1 : 0));
  const int64_t table = position.type == "learned" ? context * d_model : 0;
  return vocabulary * d_model * (tied_head ? 1 : 2) + table + layers * layer + norm_size;
}

}  // namespace kvlab

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "kvlab/model/weights.h"

namespace kvlab {

namespace {

struct Linear {
  at::Tensor weight, bias;
};

// Draws from a generator of its own, so that the process-wide random state stays untouched. Every
// tensor is drawn alone and contiguous: LibTorch's stream of numbers depends on that.
class Initialiser {
 public:
  explicit Initialiser(uint64_t seed) : generator_(at::detail::createCPUGenerator(seed)) {}

  at::Tensor embedding(int64_t rows, int64_t width) {
    return at::empty({rows, width}, at::kFloat).normal_(0.0, 1.0, generator_);
  }

  // The default of LibTorch's linear layer: Kaiming uniform with a = sqrt(5) (He et al., 2015).
  Linear linear(int64_t outputs, int64_t inputs, bool with_bias) {
    const double a = std::sqrt(5.0);
    const double gain = std::sqrt(2.0 / (1.0 + a * a));
    const double deviation = gain / std::sqrt(static_cast<double>(inputs));
    const double bound = std::sqrt(3.0) * deviation;
    Linear linear;
    linear.weight = at::empty({outputs, inputs}, at::kFloat).uniform_(-bound, bound, generator_);
    if (with_bias) {
      const double bias_bound = 1.0 / std::sqrt(static_cast<double>(inputs));
      linear.bias = at::empty({outputs}, at::kFloat).uniform_(-bias_bound, bias_bound, generator_);
    }
    return linear;
  }

 private:
  at::Generator generator_;
};

Linear stack(const std::vector<Linear>& parts) {
  std::vector<at::Tensor> weights, biases;
  for (const Linear& part : parts) {
    weights.push_back(part.weight);
    if (part.bias.defined()) biases.push_back(part.bias);
  }
  return {at::cat(weights), biases.empty() ? at::Tensor() : at::cat(biases)};
}

LayerWeights random_layer(const ModelConfig& config, Initialiser& initialiser) {
  const int64_t d = config.d_model;
  const int64_t query_rows = config.n_heads * config.head_dim;
  const int64_t key_rows = config.n_kv_heads * config.head_dim;
  LayerWeights layer;
  // Separate statements fix the order of the draws.
  const Linear query = initialiser.linear(query_rows, d, config.qkv_bias);
  const Linear key = initialiser.linear(key_rows, d, config.qkv_bias);
  const Linear value = initialiser.linear(key_rows, d, config.qkv_bias);
  const Linear output = initialiser.linear(d, query_rows, config.output_bias);
  Linear up = initialiser.linear(config.d_mlp, d, config.mlp_bias);  // swiglu: the gate
  if (config.mlp == MlpType::swiglu) {
    up = stack({up, initialiser.linear(config.d_mlp, d, config.mlp_bias)});
  }
  const Linear down = initialiser.linear(d, config.d_mlp, config.mlp_bias);
  const Linear qkv = stack({query, key, value});
  layer.qkv = qkv.weight;
  layer.qkv_bias = qkv.bias;
  layer.output = output.weight;
  layer.output_bias = output.bias;
  layer.up = up.weight;
  layer.up_bias = up.bias;
  layer.down = down.weight;
  layer.down_bias = down.bias;
  layer.attention_norm = at::ones({d}, at::kFloat);
  layer.mlp_norm = at::ones({d}, at::kFloat);
  if (config.norm == NormType::layernorm) {
    layer.attention_norm_bias = at::zeros({d}, at::kFloat);
    layer.mlp_norm_bias = at::zeros({d}, at::kFloat);
  }
  return layer;
}

}  // namespace

DecoderWeights random_weights(const ModelConfig& config, uint64_t seed) {
  config.validate();
  Initialiser initialiser(seed);
  DecoderWeights weights;
  weights.token_embedding = initialiser.embedding(config.vocabulary, config.d_model);
  if (config.position.type == "learned") {
    weights.position_table = initialiser.embedding(config.context, config.d_model);
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    weights.layers.push_back(random_layer(config, initialiser));
  }
  weights.final_norm = at::ones({config.d_model}, at::kFloat);
  if (config.norm == NormType::layernorm) {
    weights.final_norm_bias = at::zeros({config.d_model}, at::kFloat);
  }
  weights.head = config.tied_head
                     ? weights.token_embedding
                     : initialiser.linear(config.vocabulary, config.d_model, false).weight;
  return weights;
}

}  // namespace kvlab

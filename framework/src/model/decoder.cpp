#include "kvlab/model/decoder.h"

#include <ATen/ops/add.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/silu.h>

#include <cmath>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// x [N,in] times weight [out,in]; runs in the weight's type and comes back in x's.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const std::optional<at::Tensor> added =
      bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt;
  if (x.scalar_type() == weight.scalar_type()) return at::linear(x, weight, added);
  return at::linear(x.to(weight.scalar_type()), weight, added).to(x.scalar_type());
}

}  // namespace

Decoder::Decoder(ModelConfig config, DecoderWeights weights, at::ScalarType activations)
    : config_(std::move(config)), weights_(std::move(weights)), activations_(activations) {
  config_.validate();
  weights_.validate(config_);
}

at::Tensor Decoder::normalise(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias) const {
  // Sums of squares need fp32; LibTorch's norms keep it inside where the types agree.
  const at::Tensor scale = weight.to(x.scalar_type());
  if (config_.norm == NormType::rmsnorm) {
    return at::rms_norm(x, {config_.d_model}, scale, config_.norm_epsilon);
  }
  return at::layer_norm(x, {config_.d_model}, scale,
                        bias.defined() ? bias.to(x.scalar_type()) : at::Tensor(),
                        config_.norm_epsilon);
}

at::Tensor Decoder::embed(const StepContext& context, const at::Tensor& positions) const {
  const auto tokens = context.plan.tokens();
  at::Tensor ids = at::empty({context.plan.num_tokens()}, at::kLong);
  int64_t* id = ids.mutable_data_ptr<int64_t>();
  for (const int32_t token : tokens) {
    KVLAB_CHECK(token >= 0 && token < config_.vocabulary, "[model.decoder] token ", token,
                " is outside the vocabulary of ", config_.vocabulary,
                "; use the tokenizer that belongs to the model");
    *id++ = token;
  }
  at::Tensor x = at::embedding(weights_.token_embedding, ids).to(activations_);
  context.position.add_to_embedding(x, positions);
  return x;
}

at::Tensor Decoder::forward(const StepContext& context) const {
  const int64_t tokens = context.plan.num_tokens();
  at::Tensor positions = at::empty({tokens}, at::kLong);
  at::Tensor rotary = at::empty({tokens}, at::kLong);
  int64_t* text = positions.mutable_data_ptr<int64_t>();
  int64_t* angle = rotary.mutable_data_ptr<int64_t>();
  for (const RowSlice& slice : context.plan.slices()) {
    KVLAB_CHECK_LE(slice.end_position(), config_.context, "[model.decoder] text of row ",
                   slice.row, " in tokens (the model's context)");
    const int64_t base = context.cache.rotary_base(slice.row);
    for (int64_t i = 0; i < slice.count; ++i) {
      *text++ = slice.first_position + i;
      *angle++ = base + i;
    }
  }
  at::Tensor x = embed(context, positions);
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
    x = at::add(x, attend(context, layer, x, rotary));
    x = at::add(x, feed_forward(weights, x));
  }
  const auto wanted = context.plan.wanted();
  const auto count = static_cast<int64_t>(wanted.size());
  if (count != tokens) {
    const at::Tensor rows = at::from_blob(const_cast<int64_t*>(wanted.data()), {count},
                                          at::TensorOptions().dtype(at::kLong));
    x = x.index_select(0, rows);
  }
  return normalise(x, weights_.final_norm, weights_.final_norm_bias);
}

at::Tensor Decoder::attend(const StepContext& context, int64_t layer, const at::Tensor& x,
                           const at::Tensor& rotary) const {
  const LayerWeights& weights = weights_.layers[static_cast<size_t>(layer)];
  const int64_t tokens = x.size(0);
  const int64_t dim = config_.head_dim;
  const int64_t query_width = config_.n_heads * dim;
  const int64_t kv_width = config_.n_kv_heads * dim;

  const at::Tensor normal = normalise(x, weights.attention_norm, weights.attention_norm_bias);
  const at::Tensor qkv = linear(normal, weights.qkv, weights.qkv_bias);
  const auto heads = [&](int64_t begin, int64_t width) {
    return qkv.narrow(1, begin, width).view({tokens, width / dim, dim});
  };
  at::Tensor query = heads(0, query_width);
  at::Tensor key = heads(query_width, kv_width);
  const at::Tensor value = heads(query_width + kv_width, kv_width);
  context.position.rotate(query, rotary);
  if (!context.cache.traits().keys_before_position) context.position.rotate(key, rotary);

  const int index = static_cast<int>(layer);
  context.cache.append(index, key.to(context.cache_dtype), value.to(context.cache_dtype));
  const KVView& view = context.cache.view(index, query);
  at::Tensor output = at::empty({tokens, config_.n_heads, dim}, x.options());
  context.attention.forward(AttentionInput{query, output, context.plan, view, context.position,
                                           context.scratch,
                                           1.0F / std::sqrt(static_cast<float>(dim)),
                                           config_.window});
  return linear(output.view({tokens, query_width}), weights.output, weights.output_bias);
}

at::Tensor Decoder::feed_forward(const LayerWeights& layer, const at::Tensor& x) const {
  const at::Tensor normal = normalise(x, layer.mlp_norm, layer.mlp_norm_bias);
  const at::Tensor up = linear(normal, layer.up, layer.up_bias);
  at::Tensor inner;
  switch (config_.mlp) {
    case MlpType::gelu_tanh: inner = at::gelu(up, "tanh"); break;
    case MlpType::gelu_erf: inner = at::gelu(up, "none"); break;
    case MlpType::swiglu:
      inner = at::mul(at::silu(up.narrow(1, 0, config_.d_mlp)),
                      up.narrow(1, config_.d_mlp, config_.d_mlp));
      break;
  }
  return linear(inner, layer.down, layer.down_bias);
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  return linear(hidden, weights_.head, at::Tensor()).to(at::kFloat);
}

}  // namespace kvlab

#include "kvlab/model/decoder.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "decoder_buffers.h"
#include "kvlab/core/error.h"
#include "kvlab/kernels/elementwise.h"
#include "kvlab/model/step_timeline.h"
#include "weight_product.h"

namespace kvlab {

namespace {

using Clock = std::chrono::steady_clock;

// Adds the time since it was made, or since the last call, to one field of a profile.
class Stopwatch {
 public:
  explicit Stopwatch(StepProfile* profile, int layer = StepTimeline::kNoLayer)
      : profile_(profile), layer_(layer) {
    if (profile_ != nullptr) last_ = Clock::now();
  }

  // `part` names it in a timeline.
  void count(int64_t StepProfile::*field, const char* part) {
    if (profile_ == nullptr) return;
    const Clock::time_point now = Clock::now();
    profile_->*field += std::chrono::duration_cast<std::chrono::nanoseconds>(now - last_).count();
    if (profile_->timeline != nullptr)
      profile_->timeline->add(part, layer_, profile_->steps, last_, now);
    last_ = now;
  }

 private:
  StepProfile* profile_;
  int layer_;
  Clock::time_point last_;
};

kernels::Epilogue activation_of(MlpType mlp) {
  switch (mlp) {
    case MlpType::gelu_tanh: return kernels::Epilogue::gelu_tanh;
    case MlpType::gelu_erf: return kernels::Epilogue::gelu_erf;
    case MlpType::swiglu: break;
  }
  return kernels::Epilogue::swiglu;
}

struct Norm {
  std::vector<float> weight, bias;  // bias may be empty

  Norm(const at::Tensor& scale, const at::Tensor& shift)
      : weight(as_floats(scale)), bias(as_floats(shift)) {}
};

struct Layer {
  Norm attention_norm, mlp_norm;
  Linear qkv, output, up, down;

  explicit Layer(const LayerWeights& from)
      : attention_norm(from.attention_norm, from.attention_norm_bias),
        mlp_norm(from.mlp_norm, from.mlp_norm_bias),
        qkv(from.qkv, from.qkv_scales, from.qkv_bias),
        output(from.output, from.output_scales, from.output_bias),
        up(from.up, from.up_scales, from.up_bias),
        down(from.down, from.down_scales, from.down_bias) {}
};

void normalise(const ModelConfig& config, const Norm& norm, const float* x, int64_t tokens,
               float* y, ThreadPool& threads) {
  if (config.norm == NormType::rmsnorm) {
    kernels::rms_norm(x, norm.weight.data(), config.norm_epsilon, config.d_model, tokens, y,
                      threads);
    return;
  }
  kernels::layer_norm(x, norm.weight.data(), norm.bias.empty() ? nullptr : norm.bias.data(),
                      config.norm_epsilon, config.d_model, tokens, y, threads);
}

}  // namespace

struct Decoder::Plan {
  std::vector<Layer> layers;
  Norm final_norm;
  Linear embedding, head;
  bool rounds;  // activations have bf16 precision

  Plan(const DecoderWeights& weights, at::ScalarType activations)
      : final_norm(weights.final_norm, weights.final_norm_bias),
        embedding(weights.token_embedding, weights.token_embedding_scales, {}),
        head(weights.head, weights.head_scales, {}),
        rounds(activations == at::kBFloat16) {
    for (const LayerWeights& layer : weights.layers) layers.emplace_back(layer);
  }

  void round(float* values, int64_t count) const {
    if (rounds) kernels::round_to_bf16(values, count);
  }
};

Decoder::Decoder(ModelConfig config, DecoderWeights weights, at::ScalarType activations)
    : config_(std::move(config)), weights_(std::move(weights)), activations_(activations) {
  config_.validate();
  weights_.validate(config_);
  plan_ = std::make_shared<const Plan>(weights_, activations_);
}

void Decoder::embed(const StepContext& context) const {
  DecoderBuffers& buffers = *context.workspace.buffers_;
  const kernels::Matrix table = plan_->embedding.matrix();
  const int64_t d = config_.d_model;
  float* x = buffers.x.need(context.plan.num_tokens() * d);
  float* row = x;
  for (const int32_t token : context.plan.tokens()) {
    KVLAB_CHECK(token >= 0 && token < config_.vocabulary, "[model.decoder] token ", token,
                " is outside the vocabulary of ", config_.vocabulary,
                "; use the tokenizer that belongs to the model");
    kernels::decode_rows(table, token, 1, row, context.threads);
    row += d;
  }
  plan_->round(x, row - x);
  context.position.add_to_embedding(buffers.embedding, buffers.positions);
  plan_->round(x, row - x);
}

at::Tensor Decoder::forward(const StepContext& context) const {
  const int64_t tokens = context.plan.num_tokens();
  Stopwatch watch(context.profile);
  DecoderBuffers& buffers = *context.workspace.buffers_;
  buffers.begin_step(config_, tokens, context.cache_dtype);
  int64_t* text = buffers.positions.mutable_data_ptr<int64_t>();
  int64_t* angle = buffers.rotary.mutable_data_ptr<int64_t>();
  for (const RowSlice& slice : context.plan.slices()) {
    KVLAB_CHECK_LE(slice.end_position(), config_.context, "[model.decoder] text of row ",
                   slice.row, " in tokens (the model's context)");
    const int64_t base = context.cache.rotary_base(slice.row);
    for (int64_t i = 0; i < slice.count; ++i) {
      *text++ = slice.first_position + i;
      *angle++ = base + i;
    }
  }
  embed(context);
  watch.count(&StepProfile::other_ns, "embedding");
  for (size_t layer = 0; layer < plan_->layers.size(); ++layer) {
    attend(context, layer);
    feed_forward(context, layer);
  }
  watch = Stopwatch(context.profile);
  const int64_t d = config_.d_model;
  const auto wanted = context.plan.wanted();
  const auto count = static_cast<int64_t>(wanted.size());
  const float* x = buffers.x.need(tokens * d);
  float* hidden = buffers.hidden.need(std::max<int64_t>(count, 1) * d);
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(hidden + i * d, x + wanted[static_cast<size_t>(i)] * d,
                static_cast<size_t>(d) * sizeof(float));
  }
  normalise(config_, plan_->final_norm, hidden, count, hidden, context.threads);
  plan_->round(hidden, count * d);
  watch.count(&StepProfile::other_ns, "final norm");
  return at::from_blob(hidden, {count, d}, at::kFloat);
}

void Decoder::attend(const StepContext& context, size_t layer) const {
  const Layer& weights = plan_->layers[layer];
  DecoderBuffers& buffers = *context.workspace.buffers_;
  const WeightProduct multiply(buffers, context.threads, context.row_tokens);
  const int64_t tokens = context.plan.num_tokens();
  const int64_t query_width = config_.n_heads * config_.head_dim;
  const int64_t kv_width = 2 * config_.n_kv_heads * config_.head_dim;
  const int64_t width = query_width + kv_width;
  float* x = buffers.x.need(tokens * config_.d_model);
  float* normal = buffers.normal.need(tokens * config_.d_model);
  Stopwatch watch(context.profile, static_cast<int>(layer));

  normalise(config_, weights.attention_norm, x, tokens, normal, context.threads);
  plan_->round(normal, tokens * config_.d_model);
  watch.count(&StepProfile::other_ns, "attention norm");
  Projections& qkv = buffers.projections(layer);
  multiply(weights.qkv, normal, tokens, qkv.data, kernels::Epilogue::store);
  plan_->round(qkv.data, tokens * width);
  watch.count(&StepProfile::linear_ns, "qkv");
  context.position.rotate(qkv.query, buffers.rotary);
  if (!context.cache.traits().keys_before_position) {
    context.position.rotate(qkv.key, buffers.rotary);
  }
  plan_->round(qkv.data, tokens * width);
  if (qkv.cache_data != nullptr) {
    auto* to = static_cast<uint16_t*>(qkv.cache_data);
    for (int64_t token = 0; token < tokens; ++token) {
      kernels::to_bf16(qkv.data + token * width + query_width, to + token * kv_width, kv_width);
    }
  }
  watch.count(&StepProfile::other_ns, "position");

  const int index = static_cast<int>(layer);
  context.cache.append(index, qkv.cache_key, qkv.cache_value);
  const KVView& view = context.cache.view(index, qkv.query);
  const FeedbackRequest& request = context.cache.traits().feedback;
  const bool observed = request.kind != FeedbackRequest::Kind::none;
  if (observed) buffers.feedback.begin(request, view);
  watch.count(&StepProfile::cache_ns, "cache append");
  context.attention.forward(AttentionInput{
      qkv.query, buffers.attended, context.plan, view, context.position, context.scratch,
      1.0F / std::sqrt(static_cast<float>(config_.head_dim)), config_.window, &context.threads,
      observed ? &buffers.feedback : nullptr});
  float* mixed = buffers.mixed.need(tokens * query_width);
  plan_->round(mixed, tokens * query_width);
  watch.count(&StepProfile::attention_ns, "attention");
  if (observed) context.cache.observe(index, buffers.feedback);
  watch.count(&StepProfile::cache_ns, "cache observe");
  multiply(weights.output, mixed, tokens, x, kernels::Epilogue::add);
  plan_->round(x, tokens * config_.d_model);
  watch.count(&StepProfile::linear_ns, "output");
}

void Decoder::feed_forward(const StepContext& context, size_t layer) const {
  const Layer& weights = plan_->layers[layer];
  DecoderBuffers& buffers = *context.workspace.buffers_;
  const WeightProduct multiply(buffers, context.threads, context.row_tokens);
  const int64_t tokens = context.plan.num_tokens();
  const int64_t d = config_.d_model;
  float* x = buffers.x.need(tokens * d);
  float* normal = buffers.normal.need(tokens * d);
  float* inner = buffers.inner.need(tokens * config_.d_mlp);
  Stopwatch watch(context.profile, static_cast<int>(layer));

  normalise(config_, weights.mlp_norm, x, tokens, normal, context.threads);
  plan_->round(normal, tokens * d);
  watch.count(&StepProfile::other_ns, "mlp norm");
  multiply(weights.up, normal, tokens, inner, activation_of(config_.mlp));
  plan_->round(inner, tokens * config_.d_mlp);
  multiply(weights.down, inner, tokens, x, kernels::Epilogue::add);
  plan_->round(x, tokens * d);
  watch.count(&StepProfile::linear_ns, "mlp");
}

at::Tensor Decoder::logits(const StepContext& context, const at::Tensor& hidden) const {
  Stopwatch watch(context.profile);
  DecoderBuffers& buffers = *context.workspace.buffers_;
  const int64_t count = hidden.size(0);
  float* logits = buffers.logits.need(std::max<int64_t>(count, 1) * config_.vocabulary);
  const WeightProduct multiply(buffers, context.threads, context.row_tokens);
  multiply(plan_->head, hidden.const_data_ptr<float>(), count, logits, kernels::Epilogue::store);
  watch.count(&StepProfile::linear_ns, "logits");
  return at::from_blob(logits, {count, config_.vocabulary}, at::kFloat);
}

}  // namespace kvlab

#include "kvlab/model/decoder_workspace.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>

#include "decoder_buffers.h"

namespace kvlab {

namespace {

// Steps of more tokens get fresh projections in every layer: planning them for all layers at once
// would hold the keys and values of a whole prompt a second time.
constexpr int64_t kPlannedTokens = 64;

int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
}

// Projections over `rows` [N, (H+2G)*D] and, where the cache's dtype is another, `cast` [N, 2*G*D]. The
// views keep the memory alive for a cache that borrows them.
Projections projections_over(const ModelConfig& config, const at::Tensor& rows,
                             const at::Tensor& cast) {
  const int64_t dim = config.head_dim;
  const auto part = [&](const at::Tensor& of, int64_t first_head, int64_t heads) {
    return of.narrow(1, first_head * dim, heads * dim).view({rows.size(0), heads, dim});
  };
  Projections projections;
  projections.data = rows.mutable_data_ptr<float>();
  projections.query = part(rows, 0, config.n_heads);
  projections.key = part(rows, config.n_heads, config.n_kv_heads);
  projections.value = part(rows, config.n_heads + config.n_kv_heads, config.n_kv_heads);
  projections.cache_key = cast.defined() ? part(cast, 0, config.n_kv_heads) : projections.key;
  projections.cache_value =
      cast.defined() ? part(cast, config.n_kv_heads, config.n_kv_heads) : projections.value;
  if (cast.defined()) projections.cache_data = cast.mutable_data_ptr();
  return projections;
}

}  // namespace

float* GrowingBuffer::need(int64_t count) {
  if (!memory_.defined() || memory_.numel() < count) {
    // Some spare room: a text that is fed again grows by one token a step.
    const int64_t grown = memory_.defined() ? memory_.numel() + memory_.numel() / 4 : 0;
    memory_.reset();
    memory_ = at::empty({std::max(count, grown)}, at::kFloat);
  }
  return memory_.mutable_data_ptr<float>();
}

int64_t GrowingBuffer::bytes() const { return bytes_of(memory_); }

void DecoderBuffers::begin_step(const ModelConfig& config, int64_t tokens,
                                at::ScalarType cache_dtype) {
  fresh_ = Projections{};
  if (tokens == tokens_ && cache_dtype == cache_dtype_ && config_ == &config) return;
  tokens_ = -1;  // where something below throws, no plan is left
  const int64_t d = config.d_model;
  float* rows = x.need(tokens * d);
  normal.need(tokens * d);
  float* heads = mixed.need(tokens * config.n_heads * config.head_dim);
  inner.need(tokens * config.d_mlp);
  config_ = &config;
  cache_dtype_ = cache_dtype;
  if (!row_numbers_.defined() || row_numbers_.size(1) < tokens) {
    row_numbers_ = at::empty({2, tokens + tokens / 4}, at::kLong);
  }
  positions = row_numbers_.select(0, 0).narrow(0, 0, tokens);
  rotary = row_numbers_.select(0, 1).narrow(0, 0, tokens);
  embedding = at::from_blob(rows, {tokens, d}, at::kFloat);
  attended = at::from_blob(heads, {tokens, config.n_heads, config.head_dim}, at::kFloat);
  if (tokens <= kPlannedTokens) plan_projections(tokens);
  tokens_ = tokens;
}

void DecoderBuffers::plan_projections(int64_t tokens) {
  const bool casts = cache_dtype_ != at::kFloat;
  if (planned_tokens_ < tokens || casts != planned_cache_.defined() ||
      (casts && planned_cache_.scalar_type() != cache_dtype_)) {
    const int64_t room = std::max(tokens, std::min(kPlannedTokens, 2 * planned_tokens_));
    planned_tokens_ = 0;
    layers_.clear();
    const int64_t kv_width = 2 * config_->n_kv_heads * config_->head_dim;
    const int64_t width = config_->n_heads * config_->head_dim + kv_width;
    planned_ = at::empty({config_->layers, room, width}, at::kFloat);
    planned_cache_ = at::Tensor();
    if (casts) planned_cache_ = at::empty({config_->layers, room, kv_width}, cache_dtype_);
    planned_tokens_ = room;
  }
  layers_.resize(static_cast<size_t>(config_->layers));
  for (int64_t layer = 0; layer < config_->layers; ++layer) {
    const auto of_layer = [&](const at::Tensor& planned) {
      return planned.defined() ? planned.select(0, layer).narrow(0, 0, tokens) : at::Tensor();
    };
    layers_[static_cast<size_t>(layer)] =
        projections_over(*config_, of_layer(planned_), of_layer(planned_cache_));
  }
}

Projections& DecoderBuffers::projections(size_t layer) {
  if (tokens_ <= kPlannedTokens) return layers_[layer];
  const int64_t kv_width = 2 * config_->n_kv_heads * config_->head_dim;
  const int64_t width = config_->n_heads * config_->head_dim + kv_width;
  fresh_ = Projections{};
  fresh_ = projections_over(*config_, at::empty({tokens_, width}, at::kFloat),
                            cache_dtype_ == at::kFloat
                                ? at::Tensor()
                                : at::empty({tokens_, kv_width}, cache_dtype_));
  return fresh_;
}

int64_t DecoderBuffers::bytes() const {
  int64_t total = bytes_of(row_numbers_) + bytes_of(planned_) + bytes_of(planned_cache_);
  for (const GrowingBuffer* buffer :
       {&x, &normal, &mixed, &inner, &hidden, &logits, &wide, &decoded}) {
    total += buffer->bytes();
  }
  return total;
}

DecoderWorkspace::DecoderWorkspace() : buffers_(std::make_unique<DecoderBuffers>()) {}
DecoderWorkspace::~DecoderWorkspace() = default;
int64_t DecoderWorkspace::bytes() const { return buffers_->bytes(); }

}  // namespace kvlab

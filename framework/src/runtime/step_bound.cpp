#include "kvlab/runtime/step_bound.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
}

int64_t entry_bytes(const KVPlane& plane, int64_t dim) {
  const auto element = static_cast<int64_t>(c10::elementSize(plane.type));
  return dim * element + (plane.scales != nullptr ? static_cast<int64_t>(sizeof(float)) : 0);
}

}  // namespace

int64_t streamed_weight_bytes(const DecoderWeights& weights) {
  int64_t total = bytes_of(weights.final_norm) + bytes_of(weights.final_norm_bias) +
                  bytes_of(weights.head) + bytes_of(weights.head_scales);
  for (const LayerWeights& layer : weights.layers) {
    for (const at::Tensor* tensor :
         {&layer.attention_norm, &layer.attention_norm_bias, &layer.qkv, &layer.qkv_bias,
          &layer.output, &layer.output_bias, &layer.mlp_norm, &layer.mlp_norm_bias, &layer.up,
          &layer.up_bias, &layer.down, &layer.down_bias, &layer.qkv_scales, &layer.output_scales,
          &layer.up_scales, &layer.down_scales}) {
      total += bytes_of(*tensor);
    }
  }
  return total;
}

int64_t readable_kv_bytes(const KVCache& cache, const CacheShape& shape) {
  int64_t total = 0;
  KVView view;
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      cache.inspect(static_cast<int>(layer), static_cast<int>(row), view);
      for (int64_t slice = 0; slice < view.num_slices(); ++slice) {
        for (const KVSegment& segment : view.segments(slice)) {
          const int64_t entries = segment.count * (segment.head_end - segment.head_begin);
          total += entries * (entry_bytes(segment.keys, view.key_dim()) +
                              entry_bytes(segment.values, view.value_dim()));
        }
      }
    }
  }
  return total;
}

const char* bound_name(Bound bound) {
  switch (bound) {
    case Bound::weights: return "weight";
    case Bound::attention: return "attention";
    case Bound::overhead: return "overhead";
  }
  return "?";
}

Bound StepShares::bound() const {
  const double overhead = cache + other;
  if (weights >= attention && weights >= overhead) return Bound::weights;
  return attention >= overhead ? Bound::attention : Bound::overhead;
}

std::string StepShares::describe() const {
  const auto percent = [](double share) { return fmt::format("{:.0f} %", 100 * share); };
  switch (bound()) {
    case Bound::weights:
      return fmt::format(
          "weight-bound: {} of a step is products with weights (attention {}, cache {}, rest {})",
          percent(weights), percent(attention), percent(cache), percent(other));
    case Bound::attention:
      return fmt::format(
          "attention-bound: {} of a step is attention (weights {}, cache {}, rest {})",
          percent(attention), percent(weights), percent(cache), percent(other));
    case Bound::overhead: break;
  }
  return fmt::format(
      "overhead-bound: {} of a step is neither weights ({}) nor attention ({}): cache {}, rest {}",
      percent(cache + other), percent(weights), percent(attention), percent(cache), percent(other));
}

StepShares step_shares(const StepProfile& profile) {
  KVLAB_CHECK(profile.total_ns() > 0,
              "[runtime.step_shares] the profile holds no time (steps: ", profile.steps,
              "). Let the session profile at least one step");
  const auto total = static_cast<double>(profile.total_ns());
  return {static_cast<double>(profile.linear_ns) / total,
          static_cast<double>(profile.attention_ns) / total,
          static_cast<double>(profile.cache_ns) / total,
          static_cast<double>(profile.other_ns) / total};
}

}  // namespace kvlab

#include "kvlab/attention/attention.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

bool sees(int64_t query, int64_t key, int64_t model_window, const KVView& view) {
  if (key == kNoPosition || key > query) return false;
  if (model_window > 0 && query - key >= model_window) return false;
  return view.window == 0 || query - key < view.window || key < view.sinks;
}

}  // namespace

DenseMask dense_mask(const RowSlice& slice, const DenseKV& kv, int64_t model_window,
                     const KVView& view) {
  DenseMask mask;
  const int64_t last_query = slice.end_position() - 1;
  const auto reaches = [&](int64_t window) {
    return window == 0 || last_query - kv.min_position < window;
  };
  if (!kv.padded && kv.max_position <= slice.first_position && reaches(model_window) &&
      reaches(view.window)) {
    return mask;
  }
  const int64_t heads = kv.positions.size(0);
  const int64_t entries = kv.positions.size(1);
  mask.all_visible = false;
  mask.hidden = at::empty({heads, slice.count, entries}, at::kBool);
  const int32_t* positions = kv.positions.const_data_ptr<int32_t>();
  bool* hidden = mask.hidden.mutable_data_ptr<bool>();
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t query = 0; query < slice.count; ++query) {
      for (int64_t entry = 0; entry < entries; ++entry) {
        *hidden++ = !sees(slice.first_position + query, positions[head * entries + entry],
                          model_window, view);
      }
    }
  }
  return mask;
}

at::Tensor dense_bias(const RowSlice& slice, const DenseKV& kv, int64_t num_heads,
                      std::span<const float> slopes) {
  if (slopes.empty()) return {};
  KVLAB_CHECK_EQ(static_cast<int64_t>(slopes.size()), num_heads,
                 "[attention.bias] number of position slopes");
  const int64_t position_heads = kv.positions.size(0);
  const int64_t entries = kv.positions.size(1);
  at::Tensor bias = at::empty({num_heads, slice.count, entries}, at::kFloat);
  const int32_t* positions = kv.positions.const_data_ptr<int32_t>();
  const int64_t group = num_heads / kv.keys.size(0);
  float* out = bias.mutable_data_ptr<float>();
  for (int64_t head = 0; head < num_heads; ++head) {
    const int32_t* row = positions + (position_heads == 1 ? 0 : head / group) * entries;
    for (int64_t query = 0; query < slice.count; ++query) {
      const auto query_position = static_cast<int32_t>(slice.first_position + query);
      for (int64_t entry = 0; entry < entries; ++entry) {
        *out++ = slopes[static_cast<size_t>(head)] *
                 static_cast<float>(std::min(row[entry] - query_position, 0));
      }
    }
  }
  return bias;
}

}  // namespace kvlab

#include "cache_fill.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <optional>
#include <span>

#include "kvlab/core/error.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

struct Entries {
  at::Tensor keys, values;  ///< [T,G,D], borrowed from the cache where it is one segment
};

at::Tensor plane_tensor(const KVPlane& plane, int64_t heads, int64_t count, int64_t dim) {
  return at::from_blob(const_cast<void*>(plane.data), {count, heads, dim},
                       {plane.token_stride, plane.head_stride, 1},
                       at::TensorOptions().dtype(plane.type));
}

// Nothing where the row does not hold every position from 0 to `end` as plain numbers of its type.
std::optional<Entries> entries_of(const KVCache& cache, const CacheShape& shape, int layer, int row,
                                  int64_t end) {
  KVView view;
  cache.inspect(layer, row, view);
  if (view.num_slices() != 1 || view.num_kv_heads() != shape.kv_heads || !view.uniform() ||
      !view.rotated) {
    return std::nullopt;
  }
  std::vector<at::Tensor> keys, values;
  int64_t position = 0;
  for (const KVSegment& segment : view.segments(0)) {
    const bool plain = segment.keys.type == shape.dtype && segment.values.type == shape.dtype &&
                       segment.positions == nullptr && segment.first_position == position;
    if (!plain) return std::nullopt;
    keys.push_back(plane_tensor(segment.keys, shape.kv_heads, segment.count, shape.key_dim));
    values.push_back(plane_tensor(segment.values, shape.kv_heads, segment.count, shape.value_dim));
    position += segment.count;
  }
  if (position < end || keys.empty()) return std::nullopt;
  if (keys.size() == 1) return Entries{keys.front(), values.front()};
  return Entries{at::cat(keys, 0), at::cat(values, 0)};
}

void append_chunk(const Session& from, Session& to, int64_t first, int64_t end) {
  for (int64_t layer = 0; layer < to.shape().layers; ++layer) {
    std::vector<at::Tensor> keys, values;
    for (int64_t row = 0; row < to.shape().rows; ++row) {
      const auto held = entries_of(from.cache(), from.shape(), static_cast<int>(layer),
                                   static_cast<int>(row), end);
      KVLAB_INVARIANT(held.has_value(), "[decode_speed.copy_entries] row ", row, ", layer ", layer,
                      " does not hold ", end, " entries");
      keys.push_back(held->keys.narrow(0, first, end - first));
      values.push_back(held->values.narrow(0, first, end - first));
    }
    to.cache().append(static_cast<int>(layer), at::cat(keys, 0), at::cat(values, 0));
  }
}

}  // namespace

bool can_copy_entries(const Session& from, const Session& to, int64_t end) {
  const CacheTraits& traits = to.cache().traits();
  if (traits.keeps_nothing || traits.keys_before_position ||
      traits.feedback.kind != FeedbackRequest::Kind::none ||
      from.shape().dtype != to.shape().dtype || from.shape().rows != to.shape().rows) {
    return false;
  }
  for (int64_t row = 0; row < from.shape().rows; ++row) {
    if (from.cache().length(static_cast<int>(row)) < end) return false;
    if (!entries_of(from.cache(), from.shape(), 0, static_cast<int>(row), end)) return false;
  }
  return true;
}

void copy_entries(const Session& from, Session& to, const std::vector<std::vector<int32_t>>& texts,
                  int64_t first, int64_t end) {
  StepPlan plan;
  const int64_t chunk = to.chunk_for(end - first);
  for (int64_t begin = first; begin < end; begin += chunk) {
    const int64_t stop = std::min(end, begin + chunk);
    plan.clear();
    for (int64_t row = 0; row < to.shape().rows; ++row) {
      RowSlice slice;
      slice.row = static_cast<int>(row);
      slice.first_position = begin;
      slice.count = stop - begin;
      slice.prompt_left = end - stop;
      slice.wanted = WantedLogits::none;
      const std::span<const int32_t> text(texts[static_cast<size_t>(row)]);
      plan.add(slice, text.subspan(static_cast<size_t>(begin), static_cast<size_t>(stop - begin)));
    }
    to.cache().begin_step(plan);
    try {
      append_chunk(from, to, begin, stop);
    } catch (...) {
      to.cache().abort_step();
      throw;
    }
    to.cache().end_step();
  }
}

}  // namespace kvlab::experiments::decode_speed_kind

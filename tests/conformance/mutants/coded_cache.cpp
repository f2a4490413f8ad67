#include "coded_cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace kvlab::mutants {

CacheTraits coded_traits(Bug bug) {
  CacheTraits traits;
  traits.exact = bug == Bug::codes_claim_to_be_exact;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  return traits;
}

CodedCache::CodedCache(Bug bug, const CacheShape& shape, StorageArena& arena)
    : PlantedCache(bug, "coded", coded_traits(bug), shape) {
  for (int64_t i = 0; i < shape.rows * shape.layers; ++i) {
    buffers_.push_back({allocate(shape.key_dim, arena), allocate(shape.value_dim, arena)});
  }
}

CodedCache::Plane CodedCache::allocate(int64_t dim, StorageArena& arena) const {
  const CacheShape& s = shape();
  Plane made;
  made.codes = arena.allocate({s.kv_heads, s.max_length, dim}, at::kChar, MemoryKind::storage);
  made.scales = arena.allocate({s.kv_heads, s.max_length}, at::kFloat, MemoryKind::metadata);
  float* scales = made.scales.mutable_data_ptr<float>();
  std::fill(scales, scales + made.scales.numel(), std::numeric_limits<float>::quiet_NaN());
  return made;
}

float CodedCache::encode(const float* numbers, int64_t dim, int8_t* codes) const {
  float largest = 0;
  bool finite = true;
  for (int64_t d = 0; d < dim; ++d) {
    const bool usable = std::isfinite(numbers[d]);
    if (usable) largest = std::max(largest, std::abs(numbers[d]));
    finite = finite && usable;
  }
  float scale = largest / (bug_ == Bug::largest_code_wraps ? 128.0F : 127.0F);
  if (bug_ == Bug::scale_of_at_least_one) scale = std::max(scale, 1.0F);
  for (int64_t d = 0; d < dim; ++d) {
    const float quotient = largest > 0 && std::isfinite(numbers[d]) ? numbers[d] / scale : 0;
    const float code = bug_ == Bug::codes_cut_off ? std::trunc(quotient) : std::nearbyint(quotient);
    codes[d] = static_cast<int8_t>(static_cast<int32_t>(code));
  }
  if (bug_ == Bug::zeros_divided_by_zero) scale *= largest / largest;
  if (!finite && bug_ != Bug::nan_coded_as_zero) scale = std::numeric_limits<float>::quiet_NaN();
  return scale;
}

void CodedCache::store_plane(const at::Tensor& incoming, const RowSlice& slice,
                             const Plane& held) const {
  const int64_t capacity = held.codes.size(1), dim = held.codes.size(2);
  const at::Tensor numbers = incoming.to(at::kFloat).contiguous();
  auto* codes = held.codes.mutable_data_ptr<int8_t>();
  auto* scales = held.scales.mutable_data_ptr<float>();
  for (int64_t token = 0; token < slice.count; ++token) {
    for (int64_t head = 0; head < shape().kv_heads; ++head) {
      const float* from = numbers.const_data_ptr<float>() +
                          ((slice.offset + token) * shape().kv_heads + head) * dim;
      const int64_t place = head * capacity + slice.first_position + token;
      const float scale = encode(from, dim, codes + place * dim);
      if (bug_ == Bug::scale_of_what_was_there_before && !std::isnan(scales[place])) continue;
      scales[place] = scale;
    }
  }
}

void CodedCache::store(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  const Buffer& held = buffer(layer, slice.row);
  store_plane(incoming.keys, slice, held.keys);
  store_plane(incoming.values, slice, held.values);
}

KVPlane CodedCache::described(const Plane& held) const {
  KVPlane plane;
  plane.type = at::kChar;
  plane.data = held.codes.const_data_ptr();
  plane.token_stride = held.codes.stride(1);
  plane.head_stride = held.codes.stride(0);
  plane.scales = held.scales.const_data_ptr<float>();
  plane.scale_token_stride = 1;
  plane.scale_head_stride = held.scales.stride(0);
  if (bug_ == Bug::scales_at_another_stride) plane.scale_head_stride = 1;
  return plane;
}

void CodedCache::list(int layer, int row, int64_t end, KVView& view) const {
  const Buffer& held = buffer(layer, row);
  KVSegment segment;
  segment.keys = described(held.keys);
  segment.values = described(held.values);
  if (bug_ == Bug::scales_swapped) segment.values.scales = segment.keys.scales;
  segment.count = end;
  segment.head_end = static_cast<int>(shape().kv_heads);
  view.add(segment);
}

// Returns the bytes of codes.
int64_t CodedCache::copy_plane(const Plane& from, const Plane& to, int64_t entries) const {
  const int64_t capacity = from.codes.size(1), dim = from.codes.size(2);
  for (int64_t head = 0; head < shape().kv_heads; ++head) {
    const int64_t place = head * capacity;
    std::memcpy(to.codes.mutable_data_ptr<int8_t>() + place * dim,
                from.codes.const_data_ptr<int8_t>() + place * dim,
                static_cast<size_t>(entries * dim));
    if (bug_ == Bug::scales_not_forked) continue;
    std::memcpy(to.scales.mutable_data_ptr<float>() + place,
                from.scales.const_data_ptr<float>() + place,
                static_cast<size_t>(entries) * sizeof(float));
  }
  return shape().kv_heads * entries * dim;
}

void CodedCache::copy_row(int from, int to) {
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    const Buffer& source = buffer(layer, from);
    const Buffer& target = buffer(layer, to);
    count_moved(copy_plane(source.keys, target.keys, length(from)));
    count_moved(copy_plane(source.values, target.values, length(from)));
  }
}

double CodedCache::fragmentation() const {
  int64_t used = 0;
  for (int row = 0; row < shape().rows; ++row) used += length(row);
  return 1 - static_cast<double>(used) / static_cast<double>(shape().rows * shape().max_length);
}

MemoryUsage coded_estimate(const CacheShape& shape) {
  const int64_t entries = shape.rows * shape.layers * shape.kv_heads * shape.max_length;
  MemoryUsage usage;
  usage.add(MemoryKind::storage, entries * (shape.key_dim + shape.value_dim));
  usage.add(MemoryKind::metadata, entries * 8);
  return usage;
}

}  // namespace kvlab::mutants

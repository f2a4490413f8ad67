#include "kvlab/cache/kv_view.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>

#include "kvlab/core/error.h"
#include "kvlab/position/position_encoding.h"

namespace kvlab {

namespace {

at::Tensor borrow(const KVPlane& plane, int64_t heads, int64_t count, int64_t dim) {
  // The tensor is only read; LibTorch has no constant form.
  return at::from_blob(const_cast<void*>(plane.data), {heads, count, dim},
                       {plane.head_stride, plane.token_stride, 1},
                       at::TensorOptions().dtype(plane.type));
}

// Copies one head of a segment to consecutive entries at `to`. Returns the bytes.
int64_t gather_head(const KVPlane& plane, int64_t head, int64_t count, int64_t dim, char* to) {
  const auto size = static_cast<int64_t>(c10::elementSize(plane.type));
  const char* from = static_cast<const char*>(plane.data) + head * plane.head_stride * size;
  if (plane.token_stride == dim) {
    std::memcpy(to, from, static_cast<size_t>(count * dim * size));
  } else {
    for (int64_t entry = 0; entry < count; ++entry) {
      std::memcpy(to + entry * dim * size, from + entry * plane.token_stride * size,
                  static_cast<size_t>(dim * size));
    }
  }
  return count * dim * size;
}

}  // namespace

void KVView::begin(int64_t num_kv_heads, int64_t key_dim, int64_t value_dim) {
  num_kv_heads_ = num_kv_heads;
  key_dim_ = key_dim;
  value_dim_ = value_dim;
  uniform_ = true;
  window = sinks = 0;
  rotated = true;
  segments_.clear();
  starts_.clear();
}

void KVView::begin_slice() { starts_.push_back(segments_.size()); }

void KVView::add(const KVSegment& segment) {
  KVLAB_INVARIANT(!starts_.empty(), "[cache.view.add] begin_slice comes first");
  if (segment.count == 0) return;
  uniform_ = uniform_ && segment.head_begin == 0 && segment.head_end == num_kv_heads_;
  segments_.push_back(segment);
}

std::span<const KVSegment> KVView::segments(int64_t slice) const {
  const auto index = static_cast<size_t>(slice);
  KVLAB_INVARIANT(index < starts_.size(), "[cache.view.segments] slice ", slice, " of ",
                  starts_.size());
  const size_t end = index + 1 < starts_.size() ? starts_[index + 1] : segments_.size();
  return std::span<const KVSegment>(segments_).subspan(starts_[index], end - starts_[index]);
}

int64_t KVView::count(int64_t slice, int64_t head) const {
  int64_t total = 0;
  for (const KVSegment& segment : segments(slice)) {
    if (head >= segment.head_begin && head < segment.head_end) total += segment.count;
  }
  return total;
}

DenseKV KVView::dense(int64_t slice, const PositionEncoding& position,
                      StorageArena& scratch) const {
  const std::span<const KVSegment> runs = segments(slice);
  DenseKV kv;
  int64_t longest = 0;
  const int64_t position_heads = uniform_ ? 1 : num_kv_heads_;
  std::vector<int64_t> counts(static_cast<size_t>(num_kv_heads_), 0);
  for (int64_t head = 0; head < num_kv_heads_; ++head) {
    counts[static_cast<size_t>(head)] = count(slice, head);
    longest = std::max(longest, counts[static_cast<size_t>(head)]);
  }
  kv.min_position = std::numeric_limits<int64_t>::max();
  kv.positions = at::empty({position_heads, longest}, at::kInt);
  int32_t* positions = kv.positions.mutable_data_ptr<int32_t>();
  for (int64_t head = 0; head < position_heads; ++head) {
    int32_t* next = positions + head * longest;
    for (const KVSegment& run : runs) {
      if (head < run.head_begin || head >= run.head_end) continue;
      for (int64_t entry = 0; entry < run.count; ++entry) {
        const int64_t at = run.position(entry);
        kv.min_position = std::min(kv.min_position, at);
        kv.max_position = std::max(kv.max_position, at);
        *next++ = static_cast<int32_t>(at);
      }
    }
    kv.padded = kv.padded || next != positions + (head + 1) * longest;
    std::fill(next, positions + (head + 1) * longest, kNoPosition);
  }

  const at::ScalarType key_type = runs.empty() ? at::kFloat : runs.front().keys.type;
  const at::ScalarType value_type = runs.empty() ? at::kFloat : runs.front().values.type;
  for (const KVSegment& run : runs) {
    KVLAB_INVARIANT(run.keys.type == key_type && run.values.type == value_type,
                    "[cache.view.dense] the segments of a row must have one element type");
  }
  if (runs.size() == 1 && uniform_ && rotated) {
    kv.keys = borrow(runs.front().keys, num_kv_heads_, longest, key_dim_);
    kv.values = borrow(runs.front().values, num_kv_heads_, longest, value_dim_);
    return kv;
  }
  kv.keys = scratch.allocate({num_kv_heads_, longest, key_dim_}, key_type, MemoryKind::scratch);
  kv.values =
      scratch.allocate({num_kv_heads_, longest, value_dim_}, value_type, MemoryKind::scratch);
  const int64_t key_bytes = key_dim_ * static_cast<int64_t>(c10::elementSize(key_type));
  const int64_t value_bytes = value_dim_ * static_cast<int64_t>(c10::elementSize(value_type));
  char* keys = static_cast<char*>(kv.keys.mutable_data_ptr());
  char* values = static_cast<char*>(kv.values.mutable_data_ptr());
  for (int64_t head = 0; head < num_kv_heads_; ++head) {
    int64_t entry = head * longest;
    for (const KVSegment& run : runs) {
      if (head < run.head_begin || head >= run.head_end) continue;
      const int64_t local = head - run.head_begin;
      kv.gathered_bytes +=
          gather_head(run.keys, local, run.count, key_dim_, keys + entry * key_bytes);
      kv.gathered_bytes +=
          gather_head(run.values, local, run.count, value_dim_, values + entry * value_bytes);
      entry += run.count;
    }
    // Short heads end in zeros: masked, but 0 * NaN would spoil the sum.
    const auto missing = static_cast<size_t>((head + 1) * longest - entry);
    if (missing == 0) continue;
    std::memset(keys + entry * key_bytes, 0, missing * static_cast<size_t>(key_bytes));
    std::memset(values + entry * value_bytes, 0, missing * static_cast<size_t>(value_bytes));
  }
  if (!rotated && longest > 0) {
    KVLAB_INVARIANT(!kv.padded, "[cache.view.dense] keys kept before position need the same "
                                "number of entries in every head");
    // Heads may hold different positions; where all agree they are rotated together.
    at::Tensor rotary = at::empty({longest}, at::kLong);
    for (int64_t head = 0; head < position_heads; ++head) {
      int64_t* next = rotary.mutable_data_ptr<int64_t>();
      for (const KVSegment& run : runs) {
        if (head < run.head_begin || head >= run.head_end) continue;
        for (int64_t entry = 0; entry < run.count; ++entry) {
          *next++ = run.position(entry) + run.rotary_shift;
        }
      }
      at::Tensor by_token =
          kv.keys.narrow(0, head, uniform_ ? num_kv_heads_ : 1).transpose(0, 1);
      position.rotate(by_token, rotary);
    }
  }
  return kv;
}

}  // namespace kvlab

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

// What a plane's numbers are in a dense tensor.
at::ScalarType dense_type(const KVPlane& plane) {
  KVLAB_INVARIANT(plane.type != at::kChar || plane.scales != nullptr,
                  "[cache.view.dense] a plane of int8 codes needs its scales");
  return plane.type == at::kChar ? at::kFloat : plane.type;
}

void decode_head(const KVPlane& plane, int64_t head, int64_t count, int64_t dim, float* to) {
  const auto* codes = static_cast<const int8_t*>(plane.data) + head * plane.head_stride;
  const float* scales = plane.scales + head * plane.scale_head_stride;
  for (int64_t entry = 0; entry < count; ++entry) {
    const int8_t* from = codes + entry * plane.token_stride;
    const float scale = scales[entry * plane.scale_token_stride];
    for (int64_t d = 0; d < dim; ++d) to[d] = static_cast<float>(from[d]) * scale;
    to += dim;
  }
}

// Copies one head of a segment to consecutive entries at `to`, codes as numbers. Returns the bytes
// written.
int64_t gather_head(const KVPlane& plane, int64_t head, int64_t count, int64_t dim, char* to) {
  if (plane.type == at::kChar) {
    decode_head(plane, head, count, dim, reinterpret_cast<float*>(to));
    return count * dim * static_cast<int64_t>(sizeof(float));
  }
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

// One of K and V of a slice: borrowed where it lies in one run as wanted, else gathered.
class DensePlane {
 public:
  DensePlane(std::span<const KVSegment> runs, KVPlane KVSegment::*plane, int64_t heads,
             int64_t dim)
      : runs_(runs), plane_(plane), heads_(heads), dim_(dim) {
    if (!runs.empty()) type_ = (runs.front().*plane).type;
    for (const KVSegment& run : runs) {
      KVLAB_INVARIANT((run.*plane).type == type_, "[cache.view.dense] the segments of a row must "
                                                  "have one element type");
      numbers_ = dense_type(run.*plane);
    }
  }

  bool coded() const { return type_ == at::kChar; }

  at::Tensor borrowed(int64_t longest) const {
    return borrow(runs_.front().*plane_, heads_, longest, dim_);
  }

  // Adds to `bytes` what it has written. Short heads end in zeros: masked, but 0 * NaN would spoil
  // the sum.
  at::Tensor gathered(int64_t longest, StorageArena& scratch, int64_t& bytes) const {
    at::Tensor made = scratch.allocate({heads_, longest, dim_}, numbers_, MemoryKind::scratch);
    const int64_t entry_bytes = dim_ * static_cast<int64_t>(c10::elementSize(numbers_));
    char* next = static_cast<char*>(made.mutable_data_ptr());
    for (int64_t head = 0; head < heads_; ++head) {
      char* const end = next + longest * entry_bytes;
      for (const KVSegment& run : runs_) {
        if (head < run.head_begin || head >= run.head_end) continue;
        bytes += gather_head(run.*plane_, head - run.head_begin, run.count, dim_, next);
        next += run.count * entry_bytes;
      }
      std::fill(next, end, char{0});
      next = end;
    }
    return made;
  }

 private:
  std::span<const KVSegment> runs_;
  KVPlane KVSegment::*plane_;
  int64_t heads_, dim_;
  at::ScalarType type_ = at::kFloat, numbers_ = at::kFloat;
};

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

  const DensePlane keys(runs, &KVSegment::keys, num_kv_heads_, key_dim_);
  const DensePlane values(runs, &KVSegment::values, num_kv_heads_, value_dim_);
  const bool in_one_run = runs.size() == 1 && uniform_ && rotated;
  kv.keys = in_one_run && !keys.coded() ? keys.borrowed(longest)
                                        : keys.gathered(longest, scratch, kv.gathered_bytes);
  kv.values = in_one_run && !values.coded() ? values.borrowed(longest)
                                            : values.gathered(longest, scratch, kv.gathered_bytes);
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

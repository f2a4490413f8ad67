// What attention reads: per row a list of segments, runs of entries at fixed strides. Paged, ring
// and contiguous caches differ only in how many segments they add.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kvlab/core/storage_arena.h"

namespace kvlab {

class PositionEncoding;

/// K or V of a run of entries. The element (head h, entry e, d) lies at
/// `data + (h * head_stride + e * token_stride + d) * element size`, h counted from the segment's
/// `head_begin`. Offsets are 64-bit.
///
/// Types: kFloat, kBFloat16, or kChar with scales: the number is then code * scale, and one scale
/// belongs to an entry's D codes of one head.
struct KVPlane {
  const void* data = nullptr;
  int64_t token_stride = 0;  ///< in elements
  int64_t head_stride = 0;   ///< in elements
  at::ScalarType type = at::kFloat;
  /// kChar only: the scale of (h, e) lies at `h * scale_head_stride + e * scale_token_stride`.
  const float* scales = nullptr;
  int64_t scale_token_stride = 0, scale_head_stride = 0;
};

/// A run of entries whose positions ascend by one, or are listed.
struct KVSegment {
  KVPlane keys, values;
  int64_t count = 0;
  int64_t first_position = 0;          ///< text position of entry 0: the only source of masks
  const int32_t* positions = nullptr;  ///< text position of each entry, instead of first_position
  int64_t rotary_shift = 0;            ///< rotary position - text position, for unrotated keys
  int head_begin = 0, head_end = 0;    ///< the KV heads this segment covers

  int64_t position(int64_t entry) const {
    return positions != nullptr ? positions[entry] : first_position + entry;
  }
};

/// Position of a padding entry in `DenseKV`: never visible.
inline constexpr int32_t kNoPosition = -1;

/// One row's entries as tensors. Valid as long as the view it came from.
struct DenseKV {
  at::Tensor keys;       ///< [G,T,Dk], in the cache's dtype; fp32 where the cache keeps codes
  at::Tensor values;     ///< [G,T,Dv]
  at::Tensor positions;  ///< int32 [G,T], or [1,T] where all heads agree
  int64_t min_position = 0, max_position = -1;
  bool padded = false;        ///< heads hold different counts; short ones end in kNoPosition
  int64_t gathered_bytes = 0; ///< copied to make the tensors; 0 where the row is one segment
};

/// The entries a step may read, for each slice of its plan. Valid until the next non-const call on
/// the cache it came from.
class KVView {
 public:
  /// Starts an empty view. Keeps memory of earlier use.
  void begin(int64_t num_kv_heads, int64_t key_dim, int64_t value_dim);

  /// Starts the list of the next slice.
  void begin_slice();

  /// Adds a run to the current slice; empty runs are dropped.
  void add(const KVSegment& segment);

  int64_t num_slices() const { return static_cast<int64_t>(starts_.size()); }
  std::span<const KVSegment> segments(int64_t slice) const;

  /// Entries of `slice` that `head` holds.
  int64_t count(int64_t slice, int64_t head) const;

  /// Gives the slice's entries as tensors: zero-copy where the row is one segment, else gathered
  /// into `scratch`. Codes come out decoded, keys kept before position rotated by `position`.
  DenseKV dense(int64_t slice, const PositionEncoding& position, StorageArena& scratch) const;

  int64_t num_kv_heads() const { return num_kv_heads_; }  ///< may be fewer or more than the model's
  int64_t key_dim() const { return key_dim_; }
  int64_t value_dim() const { return value_dim_; }
  bool uniform() const { return uniform_; }  ///< every segment covers every head

  /// A cache may narrow the model's mask: key k is visible to query q iff k <= q and (window == 0
  /// or q - k < window or k < sinks).
  int64_t window = 0, sinks = 0;
  bool rotated = true;  ///< false: keys are kept before position

 private:
  int64_t num_kv_heads_ = 0, key_dim_ = 0, value_dim_ = 0;
  bool uniform_ = true;
  std::vector<KVSegment> segments_;
  std::vector<size_t> starts_;
};

}  // namespace kvlab

#include "preallocated_cache.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

CacheTraits preallocated_traits() {
  CacheTraits traits;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  return traits;
}

PreallocatedCache::PreallocatedCache(const PreallocatedOptions& options, const CacheShape& shape,
                                     StorageArena& arena)
    : RowwiseCache("preallocated", preallocated_traits(), shape),
      options_(options),
      arena_(arena),
      buffers_(static_cast<size_t>(shape.rows * shape.layers)) {
  const bool whole_text = options_.growth == Growth::fixed && options_.capacity == 0;
  if (whole_text || options_.capacity > shape.max_length) options_.capacity = shape.max_length;
  for (Buffer& buffer : buffers_) buffer = allocate(options_.capacity);
}

PreallocatedCache::Buffer PreallocatedCache::allocate(int64_t capacity) {
  const CacheShape& s = shape();
  return {arena_.allocate({s.kv_heads, capacity, s.key_dim}, s.dtype, MemoryKind::storage),
          arena_.allocate({s.kv_heads, capacity, s.value_dim}, s.dtype, MemoryKind::storage)};
}

Run PreallocatedCache::run(const Buffer& buffer) const {
  return Run::over(static_cast<char*>(buffer.keys.mutable_data_ptr()),
                   static_cast<char*>(buffer.values.mutable_data_ptr()), buffer.keys.size(1),
                   shape());
}

void PreallocatedCache::reserve(const StepPlan& plan) {
  if (options_.growth == Growth::fixed) {
    for (const RowSlice& slice : plan.slices()) {
      if (slice.end_position() <= options_.capacity) continue;
      throw CapacityError(detail::concat(
          "[cache.preallocated.begin_step] row ", slice.row, " is full: length ",
          slice.first_position, ", capacity ", options_.capacity, ", requested ", slice.count,
          ". Raise capacity, or use growth: doubling"));
    }
    return;
  }
  for (const RowSlice& slice : plan.slices()) {
    grow(slice.row, slice.end_position(), slice.first_position);
  }
}

// Grows layer by layer, so that only one layer's old and new buffer exist at once. Where memory
// ends half way, the layers already grown keep their room; lengths and contents are untouched.
void PreallocatedCache::grow(int row, int64_t entries, int64_t live) {
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    Buffer& buffer = buffers_[index(layer, row)];
    int64_t capacity = buffer.keys.size(1);
    if (entries <= capacity) continue;
    while (capacity < entries) capacity *= 2;
    Buffer larger = allocate(std::min(capacity, shape().max_length));
    count_moved(copy_entries(run(buffer), run(larger), live));
    buffer = std::move(larger);
  }
}

void PreallocatedCache::write(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  store_entries(incoming, slice.offset, slice.count, run(buffers_[index(layer, slice.row)]),
                slice.first_position);
}

void PreallocatedCache::segments(int layer, int row, int64_t end, KVView& view) const {
  view.add(run(buffers_[index(layer, row)]).segment(0, end, 0));
}

void PreallocatedCache::copy_row(int from, int to) {
  const int64_t entries = length(from);
  if (options_.growth == Growth::doubling) grow(to, entries, 0);
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    count_moved(copy_entries(run(buffers_[index(layer, from)]), run(buffers_[index(layer, to)]),
                             entries));
  }
}

void PreallocatedCache::check_integrity() const {
  for (int64_t row = 0; row < shape().rows; ++row) {
    for (int64_t layer = 0; layer < shape().layers; ++layer) {
      KVLAB_INVARIANT(length(static_cast<int>(row)) <= buffers_[index(layer, row)].keys.size(1),
                      "[cache.preallocated] row ", row, " is longer than its buffer in layer ",
                      layer);
    }
  }
}

double PreallocatedCache::fragmentation() const {
  int64_t allocated = 0, used = 0;
  for (int64_t row = 0; row < shape().rows; ++row) {
    allocated += buffers_[index(0, row)].keys.size(1);
    used += length(static_cast<int>(row));
  }
  return allocated == 0 ? 0 : 1 - static_cast<double>(used) / static_cast<double>(allocated);
}

}  // namespace kvlab::plugins

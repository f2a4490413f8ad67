#include "ring_cache.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

namespace {

int64_t window_for(int64_t window, const CacheShape& shape) {
  return shape.window > 0 ? std::min(window, shape.window) : window;
}

// A step reads window - 1 older entries and must not write over them.
int64_t slots_for(int64_t window, const CacheShape& shape) {
  return std::min(window_for(window, shape) - 1 + shape.max_step_tokens, shape.max_length);
}

}  // namespace

CacheTraits ring_traits(int64_t window, const CacheShape& shape) {
  CacheTraits traits;
  traits.window = window_for(window, shape);
  traits.exact = traits.window == shape.window || traits.window >= shape.max_length;
  traits.truncation = slots_for(window, shape) == shape.max_length ? Truncation::exact
                                                                   : Truncation::resident;
  traits.forks = true;
  traits.bounded = true;
  return traits;
}

RingCache::RingCache(int64_t window, const CacheShape& shape, StorageArena& arena)
    : RowwiseCache("ring", ring_traits(window, shape), shape),
      slots_(slots_for(window, shape)),
      keys_(arena.allocate({shape.rows, shape.layers, shape.kv_heads, slots_, shape.key_dim},
                           shape.dtype, MemoryKind::storage)),
      values_(arena.allocate({shape.rows, shape.layers, shape.kv_heads, slots_, shape.value_dim},
                             shape.dtype, MemoryKind::storage)),
      oldest_(static_cast<size_t>(shape.rows), 0, arena.metadata()) {}

Run RingCache::run(int layer, int row) const {
  const int64_t entries = (row * shape().layers + layer) * shape().kv_heads * slots_;
  const int64_t size = shape().element_bytes();
  return Run::over(
      static_cast<char*>(keys_.mutable_data_ptr()) + entries * shape().key_dim * size,
      static_cast<char*>(values_.mutable_data_ptr()) + entries * shape().value_dim * size, slots_,
      shape());
}

void RingCache::write(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  int64_t& oldest = oldest_[static_cast<size_t>(slice.row)];
  oldest = std::max(oldest, slice.end_position() - slots_);
  for (int64_t done = 0; done < slice.count;) {
    const int64_t slot = (slice.first_position + done) % slots_;
    const int64_t count = std::min(slice.count - done, slots_ - slot);
    store_entries(incoming, slice.offset + done, count, run(layer, slice.row), slot);
    done += count;
  }
}

void RingCache::segments(int layer, int row, int64_t end, KVView& view) const {
  view.window = window();
  // Inside a step only what its first query sees; what else is stored serves `truncate`.
  const int64_t unseen = end > length(row) ? length(row) - (window() - 1) : 0;
  for (int64_t position = std::max(oldest(row), unseen); position < end;) {
    const int64_t slot = position % slots_;
    const int64_t count = std::min(end - position, slots_ - slot);
    view.add(run(layer, row).segment(slot, count, position));
    position += count;
  }
}

void RingCache::drop(int row, int64_t from) noexcept {
  int64_t& oldest = oldest_[static_cast<size_t>(row)];
  oldest = std::min(oldest, from);
}

bool RingCache::holds_enough_for(int row, int64_t new_length) const {
  const int64_t first_seen = std::max<int64_t>(new_length - (window() - 1), 0);
  return first_seen == new_length || first_seen >= oldest(row);
}

void RingCache::copy_row(int from, int to) {
  const int64_t used = oldest(from) > 0 ? slots_ : length(from);
  for (int layer = 0; layer < shape().layers; ++layer) {
    count_moved(copy_entries(run(layer, from), run(layer, to), used));
  }
  oldest_[static_cast<size_t>(to)] = oldest(from);
}

void RingCache::check_integrity() const {
  for (int row = 0; row < shape().rows; ++row) {
    const int64_t stored = length(row) - oldest(row);
    KVLAB_INVARIANT(stored <= slots_, "[cache.ring] row ", row, " holds ", stored, " entries in ",
                    slots_, " slots");
    KVLAB_INVARIANT(stored >= std::min(length(row), window() - 1), "[cache.ring] row ", row,
                    " of length ", length(row), " holds only ", stored, " entries of a window of ",
                    window());
  }
}

double RingCache::fragmentation() const {
  int64_t used = 0;
  for (int row = 0; row < shape().rows; ++row) used += length(row) - oldest(row);
  return 1 - static_cast<double>(used) / static_cast<double>(shape().rows * slots_);
}

}  // namespace kvlab::plugins

#include "sinks_cache.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

namespace {

int64_t window_for(const SinksOptions& options, const CacheShape& shape) {
  return shape.window > 0 ? std::min(options.window, shape.window) : options.window;
}

int64_t sink_slots_for(const SinksOptions& options, const CacheShape& shape) {
  return std::min(options.sinks, shape.max_length);
}

// A step reads window - 1 older entries beside the sinks and must not write over them.
int64_t recent_slots_for(const SinksOptions& options, const CacheShape& shape) {
  return std::min(window_for(options, shape) - 1 + shape.max_step_tokens,
                  shape.max_length - sink_slots_for(options, shape));
}

}  // namespace

CacheTraits sinks_traits(const SinksOptions& options, const CacheShape& shape) {
  CacheTraits traits;
  traits.window = window_for(options, shape);
  traits.sinks = options.sinks;
  traits.keys_before_position = options.positions == SinkPositions::cache;
  // Keys before the model's own window are hidden in any case, but counting rotary positions
  // without them rounds differently.
  const bool window_is_the_models = traits.window == shape.window;
  traits.exact = traits.sinks + traits.window >= shape.max_length ||
                 (window_is_the_models && !traits.keys_before_position);
  // What each row can still hold when its text has reached the longest length.
  const int64_t recent =
      traits.keys_before_position ? traits.window - 1 : recent_slots_for(options, shape);
  traits.truncation =
      traits.sinks + recent >= shape.max_length ? Truncation::exact : Truncation::resident;
  traits.forks = true;
  traits.bounded = true;
  return traits;
}

SinksCache::SinksCache(const SinksOptions& options, const CacheShape& shape, StorageArena& arena)
    : RowwiseCache("sinks", sinks_traits(options, shape), shape),
      sinks_(sink_slots_for(options, shape)),
      recent_slots_(recent_slots_for(options, shape)),
      keys_(arena.allocate({shape.rows, shape.layers, shape.kv_heads, slots(), shape.key_dim},
                           shape.dtype, MemoryKind::storage)),
      values_(arena.allocate({shape.rows, shape.layers, shape.kv_heads, slots(), shape.value_dim},
                             shape.dtype, MemoryKind::storage)),
      oldest_(static_cast<size_t>(shape.rows), sinks_, arena.metadata()) {}

Run SinksCache::run(int layer, int row) const {
  const int64_t entries = (row * shape().layers + layer) * shape().kv_heads * slots();
  const int64_t size = shape().element_bytes();
  return Run::over(
      static_cast<char*>(keys_.mutable_data_ptr()) + entries * shape().key_dim * size,
      static_cast<char*>(values_.mutable_data_ptr()) + entries * shape().value_dim * size, slots(),
      shape());
}

SinksCache::Place SinksCache::place(int64_t position) const {
  if (position < sinks_) return {position, sinks_ - position};
  const int64_t slot = (position - sinks_) % recent_slots_;
  return {sinks_ + slot, recent_slots_ - slot};
}

int64_t SinksCache::stored(int row) const {
  return std::min(length(row), sinks_) + std::max<int64_t>(length(row) - oldest(row), 0);
}

int64_t SinksCache::rotary_base(int row) const {
  return rebases() ? stored(row) : length(row);
}

void SinksCache::write(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  int64_t& oldest = oldest_[static_cast<size_t>(slice.row)];
  oldest = std::max(oldest, slice.end_position() - recent_slots_);
  for (int64_t done = 0; done < slice.count;) {
    const Place to = place(slice.first_position + done);
    const int64_t count = std::min(slice.count - done, to.room);
    store_entries(incoming, slice.offset + done, count, run(layer, slice.row), to.slot);
    done += count;
  }
}

void SinksCache::segments(int layer, int row, int64_t end, KVView& view) const {
  view.window = window();
  view.sinks = traits().sinks;
  view.rotated = !rebases();
  // Inside a step only what its first query sees; what else is stored serves `truncate`.
  const int64_t unseen = end > length(row) ? length(row) - (window() - 1) : 0;
  const int64_t recent = std::max(oldest(row), unseen);
  for (int64_t position = 0; position < end;) {
    if (position == sinks_) position = recent;
    const Place from = place(position);
    const int64_t count = std::min(end - position, from.room);
    KVSegment segment = run(layer, row).segment(from.slot, count, position);
    // Closes the gap behind the sinks: the i-th entry of the list has rotary position i.
    if (rebases() && position >= sinks_) segment.rotary_shift = sinks_ - recent;
    view.add(segment);
    position += count;
  }
}

void SinksCache::drop(int row, int64_t from) noexcept {
  int64_t& oldest = oldest_[static_cast<size_t>(row)];
  oldest = std::min(oldest, std::max(from, sinks_));
}

// Rotary positions count what is stored, so with `cache` that must not depend on spare slots.
int64_t SinksCache::commit(const RowSlice& slice) noexcept {
  if (rebases()) {
    int64_t& oldest = oldest_[static_cast<size_t>(slice.row)];
    oldest = std::max(oldest, slice.end_position() - (window() - 1));
  }
  return slice.end_position();
}

bool SinksCache::holds_enough_for(int row, int64_t new_length) const {
  const int64_t first_seen = std::max(new_length - (window() - 1), sinks_);
  return first_seen >= new_length || first_seen >= oldest(row);
}

void SinksCache::copy_row(int from, int to) {
  const int64_t used = oldest(from) > sinks_ ? slots() : length(from);
  for (int layer = 0; layer < shape().layers; ++layer) {
    count_moved(copy_entries(run(layer, from), run(layer, to), used));
  }
  oldest_[static_cast<size_t>(to)] = oldest(from);
}

void SinksCache::check_integrity() const {
  for (int row = 0; row < shape().rows; ++row) {
    const int64_t behind = std::max<int64_t>(length(row) - sinks_, 0);
    const int64_t recent = stored(row) - std::min(length(row), sinks_);
    KVLAB_INVARIANT(recent <= recent_slots_, "[cache.sinks] row ", row, " holds ", recent,
                    " recent entries in ", recent_slots_, " slots");
    KVLAB_INVARIANT(recent >= std::min(behind, window() - 1), "[cache.sinks] row ", row,
                    " of length ", length(row), " holds only ", recent,
                    " recent entries of a window of ", window());
  }
}

double SinksCache::fragmentation() const {
  int64_t used = 0;
  for (int row = 0; row < shape().rows; ++row) used += stored(row);
  return 1 - static_cast<double>(used) / static_cast<double>(shape().rows * slots());
}

}  // namespace kvlab::plugins

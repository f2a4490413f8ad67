#include "@NAME@_cache.h"

namespace kvlab::plugins {

// What you promise. The conformance kit tests every promise and reports branch on them. Take back
// what your idea cannot keep: exact = false, truncation = Truncation::refused, forks = false.
CacheTraits @NAME@_traits() {
  CacheTraits traits;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  return traits;
}

@CLASS@Cache::@CLASS@Cache(const CacheShape& shape, StorageArena& arena)
    : RowwiseCache("@NAME@", @NAME@_traits(), shape),
      arena_(arena),
      rows_(static_cast<size_t>(shape.rows)) {}

// Memory comes from the arena: what is not allocated there is not counted.
void @CLASS@Cache::make_room(int row) {
  at::Tensor& room = rows_[static_cast<size_t>(row)];
  if (room.defined()) return;
  const CacheShape& s = shape();
  room = arena_.allocate({s.layers, s.max_length, s.kv_heads * (s.key_dim + s.value_dim)}, s.dtype,
                         MemoryKind::storage);
}

// Where the row's entries lie in `layer`: [G,max_length,Dk], then [G,max_length,Dv].
Run @CLASS@Cache::run(int layer, int row) const {
  const CacheShape& s = shape();
  char* keys = static_cast<char*>(rows_[static_cast<size_t>(row)].mutable_data_ptr()) +
               layer * s.max_length * s.token_bytes_per_layer();
  char* values = keys + s.kv_heads * s.max_length * s.key_dim * s.element_bytes();
  return Run::over(keys, values, s.max_length, s);
}

// Takes everything the step needs, for all rows: the hooks after it must not run out of memory.
void @CLASS@Cache::reserve(const StepPlan& plan) {
  for (const RowSlice& slice : plan.slices()) {
    if (slice.end_position() > 0) make_room(slice.row);
  }
}

void @CLASS@Cache::write(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  store_entries(incoming, slice.offset, slice.count, run(layer, slice.row), slice.first_position);
}

// What attention reads: entry e of a segment is the text's token first_position + e.
void @CLASS@Cache::segments(int layer, int row, int64_t end, KVView& view) const {
  if (end > 0) view.add(run(layer, row).segment(0, end, 0));
}

// Behind truncate, reset and an aborted step.
void @CLASS@Cache::drop(int row, int64_t from) noexcept {
  if (from == 0) rows_[static_cast<size_t>(row)] = at::Tensor();
}

void @CLASS@Cache::copy_row(int from, int to) {
  if (length(from) == 0) return;
  make_room(to);
  for (int layer = 0; layer < shape().layers; ++layer) {
    count_moved(copy_entries(run(layer, from), run(layer, to), length(from)));
  }
}

double @CLASS@Cache::fragmentation() const {
  int64_t slots = 0, used = 0;
  for (int row = 0; row < shape().rows; ++row) {
    if (rows_[static_cast<size_t>(row)].defined()) slots += shape().max_length;
    used += length(row);
  }
  return slots == 0 ? 0 : 1 - static_cast<double>(used) / static_cast<double>(slots);
}

}  // namespace kvlab::plugins

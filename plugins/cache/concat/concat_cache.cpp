#include "concat_cache.h"

namespace kvlab::plugins {

CacheTraits concat_traits() {
  CacheTraits traits;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  return traits;
}

ConcatCache::ConcatCache(const CacheShape& shape, StorageArena& arena)
    : RowwiseCache("concat", concat_traits(), shape),
      arena_(arena),
      buffers_(static_cast<size_t>(shape.rows * shape.layers)) {}

ConcatCache::Buffer ConcatCache::allocate(int64_t entries) {
  const CacheShape& s = shape();
  return {arena_.allocate({s.kv_heads, entries, s.key_dim}, s.dtype, MemoryKind::storage),
          arena_.allocate({s.kv_heads, entries, s.value_dim}, s.dtype, MemoryKind::storage)};
}

Run ConcatCache::run(const Buffer& buffer) const {
  return Run::over(static_cast<char*>(buffer.keys.mutable_data_ptr()),
                   static_cast<char*>(buffer.values.mutable_data_ptr()), buffer.keys.size(1),
                   shape());
}

void ConcatCache::write(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  Buffer& old = buffer(layer, slice.row);
  Buffer longer = allocate(slice.end_position());
  const Run target = run(longer);
  if (slice.first_position > 0) count_moved(copy_entries(run(old), target, slice.first_position));
  store_entries(incoming, slice.offset, slice.count, target, slice.first_position);
  old = std::move(longer);
}

void ConcatCache::segments(int layer, int row, int64_t end, KVView& view) const {
  if (end > 0) view.add(run(buffer(layer, row)).segment(0, end, 0));
}

void ConcatCache::drop(int row, int64_t from) noexcept {
  if (from > 0) return;  // shortening would need an allocation; the next step copies what is live
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    buffer(static_cast<int>(layer), row) = Buffer{};
  }
}

void ConcatCache::copy_row(int from, int to) {
  const int64_t entries = length(from);
  if (entries == 0) return;
  std::vector<Buffer> copies;
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    copies.push_back(allocate(entries));
    count_moved(
        copy_entries(run(buffer(static_cast<int>(layer), from)), run(copies.back()), entries));
  }
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    buffer(static_cast<int>(layer), to) = std::move(copies[static_cast<size_t>(layer)]);
  }
}

// Only after a truncation or an abort: the tensors stay as long as they were until the next step.
double ConcatCache::fragmentation() const {
  int64_t allocated = 0, used = 0;
  for (int64_t row = 0; row < shape().rows; ++row) {
    for (int64_t layer = 0; layer < shape().layers; ++layer) {
      const Buffer& held = buffer(static_cast<int>(layer), static_cast<int>(row));
      if (!held.keys.defined()) continue;
      allocated += held.keys.size(1);
      used += length(static_cast<int>(row));
    }
  }
  return allocated == 0 ? 0 : 1 - static_cast<double>(used) / static_cast<double>(allocated);
}

}  // namespace kvlab::plugins

#include "paged_cache.h"

#include <algorithm>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

CacheTraits paged_traits() {
  CacheTraits traits;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  return traits;
}

PagedCache::PagedCache(const PagedOptions& options, const CacheShape& shape, StorageArena& arena)
    : RowwiseCache("paged", paged_traits(), shape),
      store_(shape, options.block_size, options.max_blocks, arena) {}

void PagedCache::write(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  const auto table = store_.table(slice.row);
  int64_t done = 0;
  while (done < slice.count) {
    const int64_t position = slice.first_position + done;
    const int64_t slot = position % store_.block_size();
    const int64_t count = std::min(slice.count - done, store_.block_size() - slot);
    const int32_t block = table[static_cast<size_t>(position / store_.block_size())];
    store_entries(incoming, slice.offset + done, count, store_.run(layer, block), slot);
    done += count;
  }
}

void PagedCache::check_integrity() const {
  store_.check_integrity();
  for (int64_t row = 0; row < shape().rows; ++row) {
    const int64_t held = static_cast<int64_t>(store_.table(static_cast<int>(row)).size());
    const int64_t needed =
        (length(static_cast<int>(row)) + store_.block_size() - 1) / store_.block_size();
    KVLAB_INVARIANT(held == needed, "[cache.paged] row ", row, " of length ",
                    length(static_cast<int>(row)), " holds ", held, " blocks, needs ", needed);
  }
}

double PagedCache::fragmentation() const {
  std::vector<int64_t> filled(static_cast<size_t>(store_.pool().opened()), 0);
  for (int64_t row = 0; row < shape().rows; ++row) {
    int64_t left = length(static_cast<int>(row));
    for (const int32_t block : store_.table(static_cast<int>(row))) {
      int64_t& fill = filled[static_cast<size_t>(block)];
      fill = std::max(fill, std::min(left, store_.block_size()));
      left -= store_.block_size();
    }
  }
  int64_t live = 0;
  for (const int64_t fill : filled) live += fill;
  const int64_t slots = store_.pool().opened() * store_.block_size();
  return slots == 0 ? 0 : 1 - static_cast<double>(live) / static_cast<double>(slots);
}

}  // namespace kvlab::plugins

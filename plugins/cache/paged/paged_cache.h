// Rows as tables of fixed-size blocks from one pool: memory follows the text in steps of a block,
// and forked rows share what they have in common (Kwon et al., 2023, arXiv:2309.06180).
#pragma once

#include "kvlab/cache/block_store.h"

namespace kvlab::plugins {

struct PagedOptions {
  int64_t block_size = 64;  ///< tokens
  int64_t max_blocks = 0;   ///< 0 = enough for every row at the longest text
};

class PagedCache final : public RowwiseCache {
 public:
  PagedCache(const PagedOptions& options, const CacheShape& shape, StorageArena& arena);

  int64_t bytes_moved() const override { return store_.bytes_copied(); }
  void check_integrity() const override;
  double fragmentation() const override;

 private:
  void reserve(const StepPlan& plan) override { store_.reserve(plan); }
  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void segments(int layer, int row, int64_t end, KVView& view) const override {
    store_.list(layer, row, end, view);
  }
  void drop(int row, int64_t from) noexcept override { store_.drop(row, from); }
  void copy_row(int from, int to) override { store_.share(from, to); }

  BlockStore store_;
};

CacheTraits paged_traits();

}  // namespace kvlab::plugins

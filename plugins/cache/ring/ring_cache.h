// The newest tokens of each row in a ring of slots: memory stays the same however long the text
// gets. A query sees the last `window` tokens, itself included.
#pragma once

#include <memory_resource>
#include <vector>

#include "kvlab/cache/rowwise_cache.h"

namespace kvlab::plugins {

class RingCache final : public RowwiseCache {
 public:
  RingCache(int64_t window, const CacheShape& shape, StorageArena& arena);

  void check_integrity() const override;
  double fragmentation() const override;

 private:
  void reserve(const StepPlan&) override {}  // every slot is there from the start
  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void segments(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int row, int64_t from) noexcept override;
  bool holds_enough_for(int row, int64_t new_length) const override;
  void copy_row(int from, int to) override;

  Run run(int layer, int row) const;
  int64_t window() const { return traits().window; }
  int64_t oldest(int row) const { return oldest_[static_cast<size_t>(row)]; }

  int64_t slots_;                     // of each row; position p lies in slot p % slots_
  at::Tensor keys_, values_;          // [rows, layers, G, slots, D]
  std::pmr::vector<int64_t> oldest_;  // position of each row's oldest entry
};

/// A window wider than the model's own is cut down to it.
CacheTraits ring_traits(int64_t window, const CacheShape& shape);

}  // namespace kvlab::plugins

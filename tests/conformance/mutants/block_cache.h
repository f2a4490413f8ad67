// Rows as tables of blocks with reference counts: forked rows share blocks until one writes.
#pragma once

#include <memory_resource>
#include <vector>

#include "planted_cache.h"

namespace kvlab::mutants {

class BlockCache final : public PlantedCache {
 public:
  BlockCache(Bug bug, const CacheShape& shape, int64_t block_size, StorageArena& arena);

  void inspect(int layer, int row, KVView& view) const override;
  double fragmentation() const override;

 private:
  void reserve(const StepPlan& plan) override;
  void store(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void list(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int row, int64_t from) noexcept override;
  void copy_row(int from, int to) override;

  int64_t blocks_for(int64_t length) const { return (length + block_size_ - 1) / block_size_; }
  int64_t blocks_needed(const StepPlan& plan) const;
  bool writes_shared_tail(const RowSlice& slice) const;
  void open_blocks(int64_t needed);
  void copy_tail(const RowSlice& slice);
  int32_t& tail_of(const RowSlice& slice) {
    return entry(slice.row, slice.first_position / block_size_);
  }
  int32_t tail_of(const RowSlice& slice) const {
    return entry(slice.row, slice.first_position / block_size_);
  }
  int32_t take();
  void give_back(int32_t block);
  Run run(int layer, int32_t block) const;
  Run run(int layer, const at::Tensor& storage) const;

  static constexpr int32_t kNoBlock = -1;

  // The table of a row: `count(row)` block ids, then kNoBlock.
  int32_t& entry(int row, int64_t index) {
    return tables_.at(static_cast<size_t>(row * blocks_per_row_ + index));
  }
  int32_t entry(int row, int64_t index) const {
    return tables_.at(static_cast<size_t>(row * blocks_per_row_ + index));
  }
  int64_t& count(int row) { return counts_.at(static_cast<size_t>(row)); }
  int64_t count(int row) const { return counts_.at(static_cast<size_t>(row)); }
  int& references(int32_t block) { return references_.at(static_cast<size_t>(block)); }
  int references(int32_t block) const { return references_.at(static_cast<size_t>(block)); }

  int64_t block_size_;
  int64_t blocks_per_row_, max_blocks_;
  StorageArena& arena_;
  std::pmr::vector<int32_t> tables_;  // [rows, blocks_per_row]
  std::vector<int64_t> counts_;       // blocks of each row
  std::vector<at::Tensor> blocks_;    // [layers, K: G,block,Dk | V: G,block,Dv]
  std::vector<int> references_;       // of each block
  std::vector<int32_t> free_;         // a stack
  bool reversed_ = false;             // only with Bug::view_order_changes_between_runs
  mutable std::vector<std::vector<at::Tensor>> copies_;  // only with Bug::inspect_gives_copies
};

CacheTraits block_traits();

/// Bytes after the sequence; shares no size code with the cache.
MemoryUsage block_estimate(Bug bug, const CacheShape& shape, int64_t block_size,
                           const StepSequence& sequence);

}  // namespace kvlab::mutants

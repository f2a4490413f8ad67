// Rows as tables of blocks that hold K and V of all layers: storage for paged caches and whatever
// shares blocks between rows. After PagedAttention (Kwon et al., 2023, arXiv:2309.06180).
#pragma once

#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "kvlab/cache/block_pool.h"
#include "kvlab/cache/rowwise_cache.h"

namespace kvlab {

/// One block holds `block_size` tokens of one row in every layer, as [L][K: G,block,Dk | V:
/// G,block,Dv]. Blocks are allocated when first needed and reused afterwards. Metadata is allocated
/// once, by the constructor.
class BlockStore {
 public:
  /// `max_blocks` 0 means: enough for every row at `shape.max_length`.
  BlockStore(const CacheShape& shape, int64_t block_size, int64_t max_blocks, StorageArena& arena);

  /// Makes room for every slice of the step, or throws CapacityError and leaves no trace. Where a
  /// row is about to write into a block that it shares, the block is copied first.
  void reserve(const StepPlan& plan);

  /// Lets `to` (empty) share all blocks of `from`. Never allocates.
  void share(int from, int to) noexcept;

  /// Gives back the blocks of `row` that hold only positions from `from` on. Never allocates.
  void drop(int row, int64_t from) noexcept;

  /// Where entries of block `block` lie in `layer`.
  Run run(int layer, int32_t block) const;

  /// Adds the entries of `row` before position `end` to `view`, one segment per block. Called for
  /// every layer of every step: a few nanoseconds per block.
  void list(int layer, int row, int64_t end, KVView& view) const;

  std::span<const int32_t> table(int row) const;
  int64_t block_size() const { return block_size_; }
  const BlockPool& pool() const { return pool_; }

  /// Bytes copied because a shared block was written.
  int64_t bytes_copied() const { return bytes_copied_; }

  /// Throws InternalError unless the reference counts equal the tables' references.
  void check_integrity() const;

 private:
  int64_t blocks_for(int64_t length) const { return (length + block_size_ - 1) / block_size_; }
  int64_t blocks_needed(const StepPlan& plan) const;
  bool tail_is_shared(const RowSlice& slice) const;
  void open_blocks(int64_t needed);
  int32_t& entry(int row, int64_t index) {
    return tables_[static_cast<size_t>(row * blocks_per_row_ + index)];
  }
  void copy_tail(const RowSlice& slice);
  void poison(int32_t block) noexcept;

  CacheShape shape_;
  int64_t block_size_;
  int64_t blocks_per_row_;
  StorageArena& arena_;
  BlockPool pool_;
  std::pmr::vector<int32_t> tables_;  // [rows, blocks_per_row]
  std::pmr::vector<int32_t> counts_;  // blocks of each row
  std::pmr::vector<at::Tensor> blocks_;
  std::pmr::vector<char*> addresses_; // of the blocks; asking a tensor takes longer than a segment
  int64_t bytes_copied_ = 0;
};

}  // namespace kvlab

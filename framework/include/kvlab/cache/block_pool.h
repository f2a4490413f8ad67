// Ids of equal blocks with reference counts and a free list. Knows nothing of what blocks hold.
#pragma once

#include <cstdint>
#include <memory_resource>
#include <vector>

namespace kvlab {

/// At most `max_blocks` ids exist; they are opened one by one, so that storage can follow demand.
/// After construction nothing allocates.
class BlockPool {
 public:
  BlockPool(int64_t max_blocks, std::pmr::memory_resource* metadata);

  int64_t max_blocks() const { return max_blocks_; }
  int64_t opened() const { return static_cast<int64_t>(references_.size()); }
  int64_t free() const { return static_cast<int64_t>(free_.size()); }
  int64_t held() const { return opened() - free(); }
  int references(int32_t block) const { return references_[static_cast<size_t>(block)]; }

  /// Adds one new free block; its id is `opened() - 1`. Requires: opened() < max_blocks().
  void open();

  /// Takes back the newest block. Requires: it is free.
  void close_newest() noexcept;

  /// A free block, now with one reference. Requires: free() > 0.
  int32_t take() noexcept;

  void share(int32_t block) noexcept;

  /// Gives one reference back; true where it was the last and the block is free again.
  bool release(int32_t block) noexcept;

  /// Throws InternalError where the free list and the counts contradict each other.
  void check_integrity() const;

 private:
  int64_t max_blocks_;
  std::pmr::vector<int32_t> references_;
  std::pmr::vector<int32_t> free_;  // a stack
};

}  // namespace kvlab

#include "kvlab/cache/block_pool.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab {

BlockPool::BlockPool(int64_t max_blocks, std::pmr::memory_resource* metadata)
    : max_blocks_(max_blocks), references_(metadata), free_(metadata) {
  KVLAB_CHECK_GE(max_blocks, 1, "[cache.block_pool] max_blocks");
  KVLAB_CHECK_LE(max_blocks, INT32_MAX, "[cache.block_pool] max_blocks");
  references_.reserve(static_cast<size_t>(max_blocks));
  free_.reserve(static_cast<size_t>(max_blocks));
}

void BlockPool::open() {
  KVLAB_INVARIANT(opened() < max_blocks_, "[cache.block_pool] all ", max_blocks_,
                  " blocks are open");
  free_.push_back(static_cast<int32_t>(opened()));
  references_.push_back(0);
}

void BlockPool::close_newest() noexcept {
  const auto newest = static_cast<int32_t>(opened() - 1);
  free_.erase(std::find(free_.begin(), free_.end(), newest));
  references_.pop_back();
}

int32_t BlockPool::take() noexcept {
  const int32_t block = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockPool::share(int32_t block) noexcept { ++references_[static_cast<size_t>(block)]; }

bool BlockPool::release(int32_t block) noexcept {
  if (--references_[static_cast<size_t>(block)] > 0) return false;
  free_.push_back(block);
  return true;
}

void BlockPool::check_integrity() const {
  std::vector<bool> listed(references_.size(), false);
  for (const int32_t block : free_) {
    KVLAB_INVARIANT(block >= 0 && block < opened(), "[cache.block_pool] free block ", block,
                    " does not exist");
    KVLAB_INVARIANT(!listed[static_cast<size_t>(block)], "[cache.block_pool] block ", block,
                    " is twice in the free list");
    listed[static_cast<size_t>(block)] = true;
  }
  for (size_t block = 0; block < references_.size(); ++block) {
    KVLAB_INVARIANT((references_[block] == 0) == listed[block], "[cache.block_pool] block ", block,
                    " has ", references_[block], " references and ",
                    listed[block] ? "is" : "is not", " in the free list");
  }
}

}  // namespace kvlab

// Keeps nothing: every step computes all keys and values again. The honest baseline.
#pragma once

#include <vector>

#include "kvlab/cache/rowwise_cache.h"

namespace kvlab::plugins {

/// Points at the step's own keys and values while the step runs, without copying them.
class NoneCache final : public RowwiseCache {
 public:
  NoneCache(const CacheShape& shape, StorageArena& arena);

 private:
  void reserve(const StepPlan& plan) override;
  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void segments(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int row, int64_t from) noexcept override;
  int64_t commit(const RowSlice& slice) noexcept override;
  void copy_row(int from, int to) override;
  void release_step() noexcept;

  struct Layer {
    at::Tensor keys, values;  // the step's own, borrowed
    MemoryHold hold;          // counts them as scratch while they are kept alive
  };
  StorageArena& arena_;
  std::vector<Layer> layers_;
  std::vector<int64_t> offsets_;  // of each row in the packed step
};

CacheTraits none_traits();

}  // namespace kvlab::plugins

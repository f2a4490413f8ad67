// One buffer per row and layer, written in place. Fixed: allocated once for the longest text.
// Doubling: starts small and doubles when full.
#pragma once

#include <vector>

#include "kvlab/cache/rowwise_cache.h"

namespace kvlab::plugins {

enum class Growth { fixed, doubling };

struct PreallocatedOptions {
  Growth growth = Growth::fixed;
  int64_t capacity = 0;  ///< entries per row: the size (fixed; 0 = max_length) or the first size
};

class PreallocatedCache final : public RowwiseCache {
 public:
  PreallocatedCache(const PreallocatedOptions& options, const CacheShape& shape,
                    StorageArena& arena);

  void check_integrity() const override;
  double fragmentation() const override;

 private:
  void reserve(const StepPlan& plan) override;
  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void segments(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int, int64_t) noexcept override {}  // what lies behind the length is never read
  void copy_row(int from, int to) override;

  // Keys [G,C,Dk] and values [G,C,Dv] of one row and layer.
  struct Buffer {
    at::Tensor keys, values;
  };
  Buffer allocate(int64_t capacity);
  Run run(const Buffer& buffer) const;
  size_t index(int64_t layer, int64_t row) const {
    return static_cast<size_t>(row * shape().layers + layer);
  }
  void grow(int row, int64_t entries, int64_t live);

  PreallocatedOptions options_;
  StorageArena& arena_;
  std::vector<Buffer> buffers_;
};

CacheTraits preallocated_traits();

}  // namespace kvlab::plugins

// One growing tensor per row and layer: every step allocates a longer one and copies the old one
// over, as teaching code does with `cat`. Its cost is the point.
#pragma once

#include <vector>

#include "kvlab/cache/rowwise_cache.h"

namespace kvlab::plugins {

class ConcatCache final : public RowwiseCache {
 public:
  ConcatCache(const CacheShape& shape, StorageArena& arena);

  double fragmentation() const override;

 private:
  void reserve(const StepPlan&) override {}  // commit and drop need nothing
  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void segments(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int row, int64_t from) noexcept override;
  void copy_row(int from, int to) override;

  // Keys [G,T,Dk] and values [G,T,Dv] of one row and layer; undefined while empty. After an abort or
  // a truncation T is larger than the row's length; the next step copies only what is live.
  struct Buffer {
    at::Tensor keys, values;
  };
  Buffer allocate(int64_t entries);
  Run run(const Buffer& buffer) const;
  Buffer& buffer(int layer, int row) {
    return buffers_[static_cast<size_t>(row * shape().layers + layer)];
  }
  const Buffer& buffer(int layer, int row) const {
    return buffers_[static_cast<size_t>(row * shape().layers + layer)];
  }

  StorageArena& arena_;
  std::vector<Buffer> buffers_;
};

CacheTraits concat_traits();

}  // namespace kvlab::plugins

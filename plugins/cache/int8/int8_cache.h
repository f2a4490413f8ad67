// One buffer of int8 codes per row and layer, written in place, with a scale per token and head.
#pragma once

#include <vector>

#include "kvlab/cache/rowwise_cache.h"

namespace kvlab::plugins {

class Int8Cache final : public RowwiseCache {
 public:
  Int8Cache(const CacheShape& shape, StorageArena& arena);

  double fragmentation() const override;

 private:
  void reserve(const StepPlan&) override {}  // every row has room for the longest text
  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void segments(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int, int64_t) noexcept override {}  // what lies behind the length is never read
  void copy_row(int from, int to) override;

  // Codes [G,C,D] and their scales [G,C] of K and V of one row and layer.
  struct Buffer {
    at::Tensor keys, values, key_scales, value_scales;
    Run codes, scales;  // over these tensors; a scale is an entry of one number
  };
  Buffer allocate(StorageArena& arena) const;
  template <typename Number>
  static void store_plane(const at::Tensor& incoming, const RowSlice& slice, const Buffer& held,
                          char* Run::*plane);
  const Buffer& buffer(int64_t layer, int64_t row) const {
    return buffers_[static_cast<size_t>(row * shape().layers + layer)];
  }

  std::vector<Buffer> buffers_;
};

CacheTraits int8_traits();

}  // namespace kvlab::plugins

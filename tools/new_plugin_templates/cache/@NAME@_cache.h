// @NAME@: what is kept of a text, and what is special about it, in a sentence or two. Name the paper
// where there is one.
#pragma once

#include <vector>

#include "kvlab/cache/rowwise_cache.h"

namespace kvlab::plugins {

/// A row gets room for the longest text when it is first fed, and gives it back when it is emptied.
/// This is a whole cache: it works before you change anything.
class @CLASS@Cache final : public RowwiseCache {
 public:
  @CLASS@Cache(const CacheShape& shape, StorageArena& arena);

  double fragmentation() const override;

 private:
  // The hooks of RowwiseCache; kvlab/cache/rowwise_cache.h says what each must do.
  void reserve(const StepPlan& plan) override;
  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void segments(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int row, int64_t from) noexcept override;
  void copy_row(int from, int to) override;

  void make_room(int row);
  Run run(int layer, int row) const;

  StorageArena& arena_;
  std::vector<at::Tensor> rows_;  // K and V of one row in every layer; undefined while it is empty
};

CacheTraits @NAME@_traits();

}  // namespace kvlab::plugins

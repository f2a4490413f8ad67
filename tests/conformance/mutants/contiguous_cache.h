// One buffer per row and layer that doubles when it is full, or is as long as the longest text from
// the start.
#pragma once

#include <vector>

#include "planted_cache.h"

namespace kvlab::mutants {

class ContiguousCache final : public PlantedCache {
 public:
  /// `first_capacity` in tokens; 0 = the longest text.
  ContiguousCache(Bug bug, const CacheShape& shape, int64_t first_capacity, StorageArena& arena);

  void inspect(int layer, int row, KVView& view) const override;
  double fragmentation() const override;

 private:
  // Keys [G,C,Dk] and values [G,C,Dv] of one row and layer.
  struct Buffer {
    at::Tensor keys, values;
  };

  void reserve(const StepPlan& plan) override;
  void store(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void list(int layer, int row, int64_t end, KVView& view) const override;
  void commit(const RowSlice& slice) noexcept override;
  void drop(int row, int64_t from) noexcept override;
  void copy_row(int from, int to) override;

  at::Tensor allocate_plane(int64_t capacity, int64_t dim);
  Buffer allocate(int64_t capacity);
  Run run(const Buffer& buffer) const;
  Buffer& buffer(int64_t layer, int64_t row) {
    return buffers_.at(static_cast<size_t>(row * shape().layers + layer));
  }
  const Buffer& buffer(int64_t layer, int64_t row) const {
    return buffers_.at(static_cast<size_t>(row * shape().layers + layer));
  }
  int64_t capacity(int64_t row) const { return buffer(0, row).keys.size(1); }
  int64_t& cursor(int row) const { return cursors_.at(static_cast<size_t>(row)); }
  void store_plane(const at::Tensor& incoming, const RowSlice& slice, char* to, int64_t dim,
                   const Run& target);
  size_t address(const Run& run, int64_t head, int64_t slot, int64_t dim) const;
  void move_entries(const Buffer& from, const Buffer& to, int64_t count);

  StorageArena& arena_;
  std::vector<Buffer> buffers_;
  mutable std::vector<int64_t> cursors_;        // of each row: the slot of its next token
  std::vector<at::Tensor> log_;                 // only with Bug::log_of_every_step
  const StepPlan* ended_ = nullptr;             // only with Bug::plan_read_after_the_step
};

CacheTraits contiguous_traits(Bug bug);

/// Bytes after the sequence; shares no size code with the cache.
MemoryUsage contiguous_estimate(const CacheShape& shape, int64_t first_capacity,
                                const StepSequence& sequence);

}  // namespace kvlab::mutants

// The first `sinks` tokens of each row and the last ones in a ring behind them, which has room for
// what the first token of the longest step sees and for that step. A step's own
// tokens stay in the step's tensors until it ends, so that nothing is evicted before it was read.
#pragma once

#include <vector>

#include "planted_cache.h"

namespace kvlab::mutants {

struct RingOptions {
  int64_t window = 0, sinks = 0;
  bool rebased = false;  ///< keys are kept before position and their positions close up
};

/// Slots behind the sinks of each row.
int64_t ring_slots(const RingOptions& options, const CacheShape& shape);

class RingCache final : public PlantedCache {
 public:
  RingCache(Bug bug, const RingOptions& options, const CacheShape& shape, StorageArena& arena);

  int64_t rotary_base(int row) const override;
  double fragmentation() const override;

 private:
  void reserve(const StepPlan&) override {}
  void store(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void list(int layer, int row, int64_t end, KVView& view) const override;
  void commit(const RowSlice& slice) noexcept override;
  void drop(int row, int64_t from) noexcept override;
  void copy_row(int from, int to) override;
  void release_step() noexcept override;
  bool resident(int row, int64_t new_length) const override;

  int64_t slots() const { return options_.sinks + ring_slots(options_, shape()); }
  int64_t slot_of(int64_t position) const;
  int64_t oldest(int row) const { return oldest_.at(static_cast<size_t>(row)); }
  int64_t& oldest(int row) { return oldest_.at(static_cast<size_t>(row)); }
  int64_t rotary_shift(int row) const;
  Run run(int layer, int row) const;
  void list_own(int layer, const RowSlice& slice, KVView& view) const;

  struct Buffer {
    at::Tensor keys, values;  // [G, slots, D]
  };
  struct Step {
    at::Tensor keys, values;  // the step's own, borrowed
    MemoryHold hold;
  };
  RingOptions options_;
  StorageArena& arena_;
  std::vector<Buffer> buffers_;  // [rows, layers]
  std::vector<Step> step_;       // [layers]
  std::vector<int64_t> oldest_;  // of each row: the first position in the ring
};

CacheTraits ring_traits(Bug bug, const RingOptions& options, const CacheShape& shape);

/// Bytes after the sequence; shares no size code with the cache.
MemoryUsage ring_estimate(const RingOptions& options, const CacheShape& shape,
                          const StepSequence& sequence);

}  // namespace kvlab::mutants

// The first tokens of each row (attention sinks) and the newest ones: text without end in bounded
// memory. After StreamingLLM (Xiao et al., 2023, arXiv:2309.17453).
#pragma once

#include <memory_resource>
#include <vector>

#include "kvlab/cache/rowwise_cache.h"

namespace kvlab::plugins {

/// What a stored key's position is to the model: its place in the text, or its place among the
/// entries that are still stored (the paper's choice).
enum class SinkPositions { text, cache };

struct SinksOptions {
  int64_t sinks = 4;     ///< first tokens, kept for ever
  int64_t window = 252;  ///< newest tokens a query sees, itself included
  SinkPositions positions = SinkPositions::text;
};

class SinksCache final : public RowwiseCache {
 public:
  SinksCache(const SinksOptions& options, const CacheShape& shape, StorageArena& arena);

  int64_t rotary_base(int row) const override;
  void check_integrity() const override;
  double fragmentation() const override;

 private:
  void reserve(const StepPlan&) override {}  // every slot is there from the start
  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void segments(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int row, int64_t from) noexcept override;
  int64_t commit(const RowSlice& slice) noexcept override;
  bool holds_enough_for(int row, int64_t new_length) const override;
  void copy_row(int from, int to) override;

  /// Where the entry at a position lies, and how many of its followers lie right behind it,
  /// itself included.
  struct Place {
    int64_t slot = 0, room = 0;
  };
  Place place(int64_t position) const;
  Run run(int layer, int row) const;
  int64_t slots() const { return sinks_ + recent_slots_; }
  int64_t window() const { return traits().window; }
  bool rebases() const { return traits().keys_before_position; }
  int64_t oldest(int row) const { return oldest_[static_cast<size_t>(row)]; }
  int64_t stored(int row) const;

  int64_t sinks_;                     // slots of the first tokens
  int64_t recent_slots_;              // the ring behind them
  at::Tensor keys_, values_;          // [rows, layers, G, slots, D]
  std::pmr::vector<int64_t> oldest_;  // position of each row's oldest entry that is no sink
};

/// A window wider than the model's own is cut down to it.
CacheTraits sinks_traits(const SinksOptions& options, const CacheShape& shape);

}  // namespace kvlab::plugins

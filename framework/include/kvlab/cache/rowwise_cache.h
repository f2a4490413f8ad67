// The convenience base: does the bookkeeping of a step over a few hooks, so that an exact cache
// takes fewer than 60 lines. Hooks work on raw runs: tensor views cost 0.1 to 0.7 µs each.
#pragma once

#include <cstdint>
#include <vector>

#include "kvlab/cache/kv_cache.h"

namespace kvlab {

/// Where consecutive entries of one row and layer live, head-major. Addresses are 64-bit.
struct Run {
  char* keys = nullptr;
  char* values = nullptr;
  int64_t capacity = 0;     ///< slots; also the distance of heads, in entries
  int64_t key_dim = 0, value_dim = 0, kv_heads = 0;
  at::ScalarType type = at::kFloat;

  /// Lays a run over a key block [G,capacity,Dk] and a value block [G,capacity,Dv].
  static Run over(char* keys, char* values, int64_t capacity, const CacheShape& shape);

  /// `count` entries from `slot`, as attention reads them.
  KVSegment segment(int64_t slot, int64_t count, int64_t first_position) const;

  /// Byte offset of (head, slot) for entries of `dim` elements.
  int64_t offset(int64_t head, int64_t slot, int64_t dim) const {
    return (head * capacity + slot) * dim * static_cast<int64_t>(c10::elementSize(type));
  }
};

/// The step's new keys [N,G,Dk] and values [N,G,Dv] of one layer.
struct IncomingKV {
  const at::Tensor& keys;
  const at::Tensor& values;
};

/// Copies the packed tokens `from .. from + count` of `incoming` to `run`, from `slot` on.
void store_entries(const IncomingKV& incoming, int64_t from, int64_t count, const Run& run,
                   int64_t slot);

/// Copies the first `count` entries of every head from one run to another. Returns the bytes.
int64_t copy_entries(const Run& from, const Run& to, int64_t count);

class RowwiseCache : public KVCache {
 public:
  const CacheTraits& traits() const override { return traits_; }
  void begin_step(const StepPlan& plan) final;
  void append(int layer, const at::Tensor& key, const at::Tensor& value) final;
  const KVView& view(int layer, const at::Tensor& query) final;
  void end_step() noexcept final;
  void abort_step() noexcept final;
  int64_t length(int row) const final;
  void inspect(int layer, int row, KVView& view) const final;
  void reset(int row) final;
  int64_t truncate(int row, int64_t new_length) final;
  void fork(int from, int to) final;
  int64_t bytes_moved() const override { return bytes_moved_; }

 protected:
  RowwiseCache(std::string name, const CacheTraits& traits, const CacheShape& shape);

  // Hooks. A row's `length(row)` entries are committed; a step adds entries behind them.

  /// Acquires everything the step and its commit need, or throws CapacityError and leaves lengths
  /// and contents alone.
  virtual void reserve(const StepPlan& plan) = 0;

  /// Takes the new entries of one slice in one layer.
  virtual void write(int layer, const RowSlice& slice, const IncomingKV& incoming) = 0;

  /// Adds the row's entries before position `end` to `view`.
  virtual void segments(int layer, int row, int64_t end, KVView& view) const = 0;

  /// Forgets the row's entries from position `from` on; entries of an aborted step are among
  /// them. Never allocates.
  virtual void drop(int row, int64_t from) noexcept = 0;

  /// Called at `end_step` for each slice: eviction happens here. Returns the row's new length.
  virtual int64_t commit(const RowSlice& slice) noexcept { return slice.end_position(); }

  /// Whether everything that a text of `new_length` tokens (above 0, at most `length(row)`) needs to
  /// go on is still stored. For caches that evict and declare Truncation::resident.
  virtual bool holds_enough_for(int row, int64_t new_length) const;

  /// Makes `to` (already empty) hold the first `length(from)` entries of `from`. May throw
  /// CapacityError, leaving `to` empty. Needed where the traits declare `forks`.
  virtual void copy_row(int from, int to);

  const CacheShape& shape() const { return shape_; }
  void count_moved(int64_t bytes) { bytes_moved_ += bytes; }

 private:
  void check_row(int row, const char* operation) const;
  void check_outside_step(const char* operation) const;

  CacheTraits traits_;
  CacheShape shape_;
  std::vector<int64_t> lengths_;
  std::vector<bool> appended_;     // layers, in this step
  const StepPlan* plan_ = nullptr; // not null while a step runs
  KVView view_;
  int64_t bytes_moved_ = 0;
};

}  // namespace kvlab

// The interface every cache implements. Nine functions are required; the rest have defaults that
// throw "not supported by <name>" and are guarded by a trait.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>

#include "kvlab/cache/cache_shape.h"
#include "kvlab/cache/kv_view.h"
#include "kvlab/core/step_plan.h"

namespace kvlab {

class AttentionFeedback;

/// Keys and values of several rows and layers.
///
/// One step: `begin_step`, then per layer `append`, `view` (any number of times) and, where asked
/// for, `observe`; then `end_step`. After any exception in between the engine calls `abort_step`.
/// A cache is used by one thread.
class KVCache {
 public:
  virtual ~KVCache() = default;
  KVCache(const KVCache&) = delete;
  KVCache& operator=(const KVCache&) = delete;

  const std::string& name() const { return name_; }

  virtual const CacheTraits& traits() const = 0;

  /// Reserves what the step and its commit need, for all rows at once. The plan must stay
  /// unchanged until `end_step` or `abort_step`. Requires: each slice starts at `length(row)`.
  /// Throws CapacityError if one row does not fit; lengths and contents are then unchanged.
  virtual void begin_step(const StepPlan& plan) = 0;

  /// Takes the step's new keys and values of `layer`: `key` [N,G,Dk], `value` [N,G,Dv], in
  /// `shape.dtype`, packed in the plan's order; any strides with contiguous D. They are borrowed: the
  /// engine keeps them unchanged until the step ends. Throws UserError for another dtype or shape.
  virtual void append(int layer, const at::Tensor& key, const at::Tensor& value) = 0;

  /// Gives what the queries `query` [N,H,D] of the step may read in `layer`, own tokens included.
  /// Requires: `layer` was appended in this step. Valid until the next non-const call.
  virtual const KVView& view(int layer, const at::Tensor& query) = 0;

  /// Makes the step's tokens part of the cache. Neither throws nor allocates.
  virtual void end_step() noexcept = 0;

  /// Forgets the step: lengths and contents as before `begin_step`. A cache that narrows the mask
  /// may have given up entries that no later query sees; only `truncate` then reaches less far.
  /// Neither throws nor allocates.
  virtual void abort_step() noexcept = 0;

  /// Leading tokens of the row's text that need not be fed again.
  virtual int64_t length(int row) const = 0;

  /// Writes the committed entries of one row and layer into `view` (as one slice). Outside a step.
  virtual void inspect(int layer, int row, KVView& view) const = 0;

  /// Empties `row` for a new text.
  virtual void reset(int row) = 0;

  // Optional.

  /// Rotary position of the row's next token; differs from `length` where a cache re-bases.
  virtual int64_t rotary_base(int row) const { return length(row); }

  /// Takes the reductions the cache asked for in its traits. Stages only: effect in `end_step`.
  virtual void observe(int layer, const AttentionFeedback& feedback);

  /// Keeps the first `new_length` tokens of `row`; returns the new `length(row)`. Throws UserError
  /// past the current length, or where the dropped entries are needed and gone.
  virtual int64_t truncate(int row, int64_t new_length);

  /// Makes row `to` hold what row `from` holds; what `to` held is gone. Storage may be shared until
  /// one of them writes.
  virtual void fork(int from, int to);

  /// Takes over a stored prefix of `tokens`; returns the new `length(row)`, at most
  /// tokens.size() - 1, since the last token's logits are wanted.
  virtual int64_t match_prefix(int row, std::span<const int32_t> tokens);

  /// Throws InternalError where bookkeeping contradicts itself. For tests and debug builds.
  virtual void check_integrity() const {}

  /// Bytes of K and V copied from one place of the cache to another so far: growth,
  /// concatenation, copy on write. Writing new tokens once is not counted.
  virtual int64_t bytes_moved() const { return 0; }

  /// Allocated entries that hold no token, over all allocated ones; 0 where nothing is allocated.
  virtual double fragmentation() const { return 0; }

 protected:
  explicit KVCache(std::string name) : name_(std::move(name)) {}
  [[noreturn]] void unsupported(const char* operation) const;

 private:
  std::string name_;
};

/// Live payload: bytes of K and V codes that the rows hold, counted from `inspect`. Entries shared
/// by several rows count once.
int64_t payload_bytes(const KVCache& cache, const CacheShape& shape);

}  // namespace kvlab

// What the caches of this folder have in common: a step's bookkeeping, written out against KVCache
// and not RowwiseCache, since that base makes many of the bugs impossible.
#pragma once

#include <vector>

#include "bug.h"
#include "kvlab/cache/rowwise_cache.h"

namespace kvlab::mutants {

/// Sound with Bug::none.
class PlantedCache : public KVCache {
 public:
  const CacheTraits& traits() const override { return traits_; }
  void begin_step(const StepPlan& plan) final;
  void append(int layer, const at::Tensor& key, const at::Tensor& value) final;
  const KVView& view(int layer, const at::Tensor& query) final;
  void end_step() noexcept final;
  void abort_step() noexcept final;
  int64_t length(int row) const final;
  void inspect(int layer, int row, KVView& view) const override;
  void reset(int row) final;
  int64_t truncate(int row, int64_t new_length) final;
  void fork(int from, int to) final;
  int64_t bytes_moved() const override { return bytes_moved_; }

 protected:
  PlantedCache(Bug bug, std::string name, const CacheTraits& traits, const CacheShape& shape);

  // As the hooks of RowwiseCache.
  virtual void reserve(const StepPlan& plan) = 0;
  virtual void store(int layer, const RowSlice& slice, const IncomingKV& incoming) = 0;
  virtual void list(int layer, int row, int64_t end, KVView& view) const = 0;
  virtual void commit(const RowSlice&) noexcept {}
  virtual void drop(int row, int64_t from) noexcept = 0;
  virtual void copy_row(int from, int to) = 0;

  /// Called at the end of every step, aborted or not.
  virtual void release_step() noexcept {}

  /// Whether the row holds all that a text of `new_length` tokens needs.
  virtual bool resident(int, int64_t) const { return true; }

  const CacheShape& shape() const { return shape_; }
  const StepPlan* plan() const { return plan_; }
  void count_moved(int64_t bytes) { bytes_moved_ += bytes; }

  Bug bug_;

 private:
  int checked_row(int row, const char* operation) const;
  int checked_layer(int layer, const char* operation) const;
  void check_outside_step(const char* operation) const;
  void check_room(const StepPlan& plan, const RowSlice& slice);
  at::Tensor accepted(const at::Tensor& tensor, const char* what, int64_t dim) const;
  std::vector<int64_t>& lengths() const;
  int64_t& length_of(int row) const { return lengths().at(static_cast<size_t>(row)); }

  CacheTraits traits_;
  CacheShape shape_;
  mutable std::vector<int64_t> lengths_;
  std::vector<bool> appended_;      // layers, in this step
  mutable std::vector<KVView> views_;  // of each layer
  const StepPlan* plan_ = nullptr;  // not null while a step runs
  int64_t bytes_moved_ = 0;
  bool append_failed_ = false;      // only with Bug::failed_append_is_not_forgotten
};

}  // namespace kvlab::mutants

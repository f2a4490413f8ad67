// Drives one cache and its oracle side by side and compares them after every operation.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <random>
#include <vector>

#include "cache_cases.h"
#include "cache_oracle.h"
#include "kvlab/core/step_plan.h"

namespace kvlab::conformance {

/// New tokens of one row.
struct Feed {
  int row = 0;
  int64_t count = 0;
};

class CacheHarness {
 public:
  /// Storage is poisoned with NaN.
  explicit CacheHarness(const CacheCase& chosen, uint64_t seed = 1);

  /// A whole step with random tokens: attention of every layer is compared, then `verify`.
  void step(const std::vector<Feed>& feeds);

  // The same in phases. `begin` throws what the cache throws, and the oracle is then as before.
  void begin(const std::vector<Feed>& feeds);
  void append(int layer);
  void attend(int layer);
  void finish();
  void abort();

  // On the cache and the oracle, followed by `verify`.
  void truncate(int row, int64_t new_length);
  void fork(int from, int to);
  void reset(int row);

  /// Compares lengths and every stored entry of every row and layer bit for bit, and lets the cache
  /// check itself. Outside a step.
  void verify();

  KVCache& cache() { return *cache_; }
  StorageArena& arena() { return arena_; }
  const CacheOracle& oracle() const { return oracle_; }
  const StepPlan& plan() const { return plan_; }
  const CacheTraits& traits() const { return cache_->traits(); }
  int64_t length(int row) const { return oracle_.length(row); }
  int64_t rows() const { return case_.shape.rows; }
  int64_t room(int row) const { return case_.shape.max_length - length(row); }
  const CacheShape& shape() const { return case_.shape; }

  /// The last attention outputs [N,H,Dv], one per layer attended.
  const std::vector<at::Tensor>& outputs() const { return outputs_; }

  /// Lets `attend` compare every attention plugin instead of one by turns.
  void use_every_attention() { alternate_ = false; }

  /// Whether K and V are sliced out of one fused tensor whose other part is NaN; alternates.
  bool fused() const { return fused_; }

 private:
  at::Tensor incoming(int layer, bool keys);
  void compare(int layer, const at::Tensor& query, const at::Tensor& output,
               const std::string& attention) const;

  CacheCase case_;
  std::mt19937_64 random_;
  StorageArena arena_;
  StorageArena scratch_;
  std::unique_ptr<KVCache> cache_;
  std::vector<std::unique_ptr<Attention>> attentions_;
  std::unique_ptr<PositionEncoding> position_;
  CacheOracle oracle_;
  StepPlan plan_;
  std::vector<Feed> feeds_;
  std::vector<int64_t> lengths_before_;
  std::vector<at::Tensor> outputs_;
  std::vector<at::Tensor> alive_;  // the step's K and V: borrowed by the cache until it ends
  bool fused_ = false;
  bool alternate_ = true;
  int64_t steps_ = 0;
};

}  // namespace kvlab::conformance

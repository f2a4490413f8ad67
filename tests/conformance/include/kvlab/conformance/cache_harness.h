// Drives one cache and its oracle side by side and compares them after every operation.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "kvlab/conformance/cache_case.h"
#include "kvlab/conformance/cache_oracle.h"
#include "kvlab/core/step_plan.h"

namespace kvlab::conformance {

/// New tokens of one row.
struct Feed {
  int row = 0;
  int64_t count = 0;
};

/// Where the K and V that a cache is given lie.
enum class Source {
  by_turns,  ///< the next two, step by step
  own,       ///< tensors of their own
  fused,     ///< slices of a wider tensor whose other part is NaN
};

/// Every disagreement between cache and oracle throws Failure.
class CacheHarness {
 public:
  /// Storage is poisoned with NaN.
  CacheHarness(const Registry& registry, const CacheCase& chosen, uint64_t seed = 1);

  /// Steps with new tokens: attention of every layer is compared, then `verify`. One step, or as
  /// many as `parts` gives.
  void step(const std::vector<Feed>& feeds);

  /// The feeds as steps of at most `max_step_tokens` per row. One that keeps nothing gets them whole.
  std::vector<std::vector<Feed>> parts(const std::vector<Feed>& feeds) const;

  /// The first of `parts`.
  std::vector<Feed> first_part(const std::vector<Feed>& feeds) const { return parts(feeds).front(); }


  // The same in phases. `begin` throws what the cache throws, and the oracle is then as before.
  void begin(const std::vector<Feed>& feeds);
  void append(int layer);
  void attend(int layer);
  void finish();
  void abort();

  // On the cache and the oracle, followed by `verify`. They throw what the cache throws, and the
  // oracle is then as before.
  void truncate(int row, int64_t new_length);
  void fork(int from, int to);
  void reset(int row);

  /// Compares lengths and stored entries of every row and layer bit for bit, and lets the cache
  /// check itself. Outside a step. Where the cache narrows the mask, it may hold fewer entries than
  /// the text: each must be the text's, none may be there twice, and none may be missing that the
  /// next query sees.
  void verify();

  /// Whether the row holds everything that a text of `new_length` tokens would need to go on, and
  /// so for every length between it and the present one: truncate to it must then work.
  bool holds_enough_for(int row, int64_t new_length);

  /// Whether the contents can be compared with a text: false for an approximate cache that neither
  /// narrows the mask nor says in its registry entry what it stores. Its attention is compared over
  /// what its own views hold.
  bool followed() const { return followed_; }

  KVCache& cache() { return *cache_; }
  StorageArena& arena() { return arena_; }
  const CacheOracle& oracle() const { return oracle_; }
  const StepPlan& plan() const { return plan_; }
  const CacheTraits& traits() const { return cache_->traits(); }
  const CacheCase& chosen() const { return case_; }
  int64_t length(int row) const { return oracle_.length(row); }
  int64_t rows() const { return case_.shape.rows; }
  int64_t room(int row) const { return case_.shape.max_length - length(row); }
  const CacheShape& shape() const { return case_.shape; }

  /// The last attention outputs [N,H,Dv] of the first attention plugin, one per layer attended.
  const std::vector<at::Tensor>& outputs() const { return outputs_; }

  /// Lets `attend` compare every attention plugin instead of one by turns.
  void use_every_attention() { alternate_ = false; }

  void use_source(Source source) { source_ = source; }

  /// Lets ids of the row's next tokens count from `first`. Without it no two tokens of a harness
  /// have the same id, and two harnesses give a row's n-th token the same one.
  void count_tokens_from(int row, int32_t first) {
    next_token_[static_cast<size_t>(row)] = first;
  }

  /// Lets the queries start again from `seed`.
  void reseed(uint64_t seed) { random_.seed(seed); }

 private:
  struct Visible {
    int64_t first_query = 0, last_query = 0;  // of this text
  };
  at::Tensor incoming(int layer, bool keys);
  void compare(const AttentionInput& input, int layer, const std::string& attention,
               const std::vector<RotaryPositions>& rotary) const;
  std::vector<int64_t> check_slice(const KVView& view, int64_t slice, int row, int64_t layer,
                                   int64_t head, const Visible& queries) const;
  void check_view(const KVView& view, int64_t slice, int row, int64_t layer,
                  const Visible& queries) const;
  RotaryPositions check_rotary(const KVView& view, int64_t slice, int row, int64_t next,
                               int64_t base) const;
  ReferenceRules rules() const;

  CacheCase case_;
  std::mt19937_64 random_;
  StorageArena arena_;
  StorageArena scratch_;
  std::unique_ptr<KVCache> cache_;
  std::vector<std::unique_ptr<Attention>> attentions_;
  std::unique_ptr<PositionEncoding> position_;
  bool followed_;
  CacheOracle oracle_;
  StepPlan plan_;
  std::vector<int64_t> lengths_before_;
  std::vector<int32_t> next_token_;  // by row
  std::vector<at::Tensor> outputs_;
  std::vector<at::Tensor> alive_;  // the step's K and V: borrowed by the cache until it ends
  Source source_ = Source::by_turns;
  bool alternate_ = true;
  bool in_step_ = false;
  int64_t steps_ = 0;
};

/// For a plugin's own tests: one step that feeds {row, tokens} and attends to nothing. K of token t
/// of row r is r + t/64 in every element, V its negative.
void feed(KVCache& cache, const CacheShape& shape,
          const std::vector<std::pair<int, int64_t>>& rows);

}  // namespace kvlab::conformance

// What a cache is built for, and what it promises.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <vector>

#include "kvlab/core/storage_arena.h"

namespace kvlab {

/// Dimensions of a cache. Axis letters: G KV heads, D head dim.
struct CacheShape {
  int64_t layers = 0;           ///< layers that keep their own K and V
  int64_t query_heads = 0;      ///< H of the model; H / kv_heads query heads share one KV head
  int64_t kv_heads = 0;         ///< G
  int64_t rows = 0;             ///< sequences in the batch
  int64_t key_dim = 0;          ///< D of keys
  int64_t value_dim = 0;        ///< D of values
  int64_t max_length = 0;       ///< longest text of one row, in tokens
  int64_t max_step_tokens = 0;  ///< most tokens of one row in one step (the prefill chunk)
  int64_t window = 0;           ///< the model's sliding window in tokens; 0 = none
  at::ScalarType dtype = at::kFloat;

  int64_t element_bytes() const { return static_cast<int64_t>(c10::elementSize(dtype)); }
  /// Bytes of one token's K and V in one layer.
  int64_t token_bytes_per_layer() const {
    return kv_heads * (key_dim + value_dim) * element_bytes();
  }

  /// Throws UserError naming the first dimension that cannot be.
  void validate() const;
};

/// How far `truncate` can go back.
enum class Truncation {
  refused,      ///< not supported
  resident,     ///< only within what is still stored
  approximate,  ///< gives something near the state before
  exact,        ///< as if the dropped tokens had never been fed
};

/// "refused", "resident", "approximate" or "exact".
const char* truncation_name(Truncation truncation);

/// Reductions of attention probabilities a cache may ask for.
struct FeedbackRequest {
  enum class Kind { none, column_sums, last_rows };
  enum class GroupReduction { sum, mean, max };
  Kind kind = Kind::none;
  int64_t rows = 0;  ///< for last_rows: how many of the last query rows
  GroupReduction reduction = GroupReduction::sum;
};

/// What a cache promises and needs, as a function of its options and shape. Tests, reports and the
/// compatibility check branch on these, never on names.
struct CacheTraits {
  bool exact = true;                ///< same answer as no cache
  Truncation truncation = Truncation::refused;
  bool forks = false;               ///< `fork` works
  bool shares_prefixes = false;     ///< `match_prefix` may find something
  bool bounded = false;             ///< storage does not grow with the text
  /// How the cache narrows the model's mask, 0 = not at all: a query at q sees key k iff k <= q and
  /// (window == 0 or q - k < window or k < sinks). Every view says the same, and every entry that a
  /// later query may see is kept.
  int64_t window = 0, sinks = 0;
  bool keys_before_position = false;///< keys are kept unrotated
  bool keeps_nothing = false;       ///< length is always 0; the engine feeds the whole text
  FeedbackRequest feedback;
};

/// What happens to the rows' lengths, step by step: the input of a memory estimate.
struct StepSequence {
  struct Item {
    int row = 0;
    int64_t end = 0;  ///< text length of the row after the step, in tokens
  };
  std::vector<std::vector<Item>> steps;

  /// Prefill of each row's prompt in chunks of `chunk` tokens (0 = at once), then decode steps of
  /// one token per row up to `new_tokens` generated ones (the last is never fed).
  static StepSequence prefill_then_decode(const std::vector<int64_t>& prompt_lengths,
                                          int64_t new_tokens, int64_t chunk);
};

}  // namespace kvlab

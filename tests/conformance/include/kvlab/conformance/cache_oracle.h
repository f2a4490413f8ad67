// The slow and obvious twin of every cache: a vector of (position, K, V) per row and layer, and
// dense attention over it in double precision.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "kvlab/cache/cache_shape.h"

namespace kvlab::conformance {

/// One stored token as one KV head sees it.
struct ReferenceEntry {
  int64_t position = 0;
  const double* key = nullptr;    ///< [Dk]
  const double* value = nullptr;  ///< [Dv]
};

/// What narrows or biases a score.
struct ReferenceRules {
  double scale = 1;
  int64_t model_window = 0;               ///< 0 = none
  int64_t view_window = 0, view_sinks = 0;
  double slope = 0;                       ///< alibi: slope * (key position - query position)
};

/// Whether the query at `query` may see the key at `key`.
bool visible(int64_t query, int64_t key, const ReferenceRules& rules);

/// Attention of one query head in double precision; zeros where nothing is visible.
std::vector<double> reference_attention(const double* query, int64_t query_position,
                                        const std::vector<ReferenceEntry>& entries,
                                        int64_t key_dim, int64_t value_dim,
                                        const ReferenceRules& rules);

/// The model's K and V of a token, a function of its id alone. Keys lie in [-2,2], values in [4,8):
/// a mix-up cannot go unnoticed. All are exact in bf16.
float token_key(int32_t token, int64_t layer, int64_t head, int64_t dim);
float token_value(int32_t token, int64_t layer, int64_t head, int64_t dim);

/// Nearest value of `dtype`.
double round_to(double value, at::ScalarType dtype);

/// Rotates one head [dim] by `position`: pairs (i, i + dim/2), pair i by 10000^(-2i/dim) per
/// position.
void reference_rotate(double* head, int64_t dim, int64_t position);

/// Rotary position of each text position that a view holds, where keys are kept before position.
using RotaryPositions = std::map<int64_t, int64_t>;

/// What a cache stores for one token's heads [G*D]: [stored heads * D]. Empty: the same.
using StoredEntry = std::function<std::vector<double>(std::span<const double> heads, int64_t dim)>;

class CacheOracle {
 public:
  struct Entry {
    int64_t position = 0;
    std::vector<double> keys, values;  ///< [stored heads, D]
  };

  CacheOracle(const CacheShape& shape, StoredEntry stored_entry);

  void append(int row, int32_t token);
  void truncate(int row, int64_t new_length);
  void fork(int from, int to);

  int64_t length(int row) const { return static_cast<int64_t>(texts_[index(row)].size()); }
  const std::vector<int32_t>& text(int row) const { return texts_[index(row)]; }
  const std::vector<Entry>& entries(int row, int64_t layer) const {
    return entries_[index(row)][static_cast<size_t>(layer)];
  }

  /// Heads of an entry; the shape's where nothing pools or repeats.
  int64_t stored_heads() const { return stored_heads_; }

  /// Output [H,Dv] of the query [H,Dk] at `position`, over the row's whole text as `rules` allow.
  /// With `rotary` the keys are rotated to those positions first; it must hold what is visible.
  std::vector<double> attend(int row, int64_t layer, int64_t position, const float* query,
                             const ReferenceRules& rules,
                             const RotaryPositions* rotary = nullptr) const;

 private:
  static size_t index(int row) { return static_cast<size_t>(row); }

  CacheShape shape_;
  StoredEntry stored_entry_;
  int64_t stored_heads_;
  std::vector<std::vector<int32_t>> texts_;               // [row]
  std::vector<std::vector<std::vector<Entry>>> entries_;  // [row][layer]
};

}  // namespace kvlab::conformance

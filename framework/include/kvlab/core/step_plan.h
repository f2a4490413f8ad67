// What one forward pass feeds: packed tokens of one or more rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace kvlab {

/// Cannot be guessed from the count: `none` feeds the whole text again while decoding, and a
/// prompt chunk may hold one token.
enum class Phase { prefill, decode };

/// Which of a slice's tokens need logits.
enum class WantedLogits { none, last, all };

/// One row's share of a step.
struct RowSlice {
  int row = 0;
  int64_t first_position = 0;  ///< text position of the first token; equals cache.length(row)
  int64_t offset = 0;          ///< of the first token among the step's N packed tokens
  int64_t count = 0;           ///< tokens of this row, may be 0
  int64_t prompt_left = 0;     ///< prompt tokens still to come; 0 on the last prompt chunk
  Phase phase = Phase::prefill;
  WantedLogits wanted = WantedLogits::last;

  int64_t end_position() const { return first_position + count; }
};

/// The plan of one step. The engine owns one and reuses it; it does not change between
/// `KVCache::begin_step` and `end_step` or `abort_step`.
class StepPlan {
 public:
  /// Forgets all slices, keeps the memory.
  void clear();

  /// Adds the next tokens of `row`. Throws UserError if the row is already in the plan or
  /// `first_position` is negative.
  void add(const RowSlice& slice_without_offset, std::span<const int32_t> tokens);

  std::span<const RowSlice> slices() const { return slices_; }
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> tokens(const RowSlice& slice) const;
  int64_t num_tokens() const { return static_cast<int64_t>(tokens_.size()); }

  /// Indices into the packed tokens whose logits are wanted, ascending.
  std::span<const int64_t> wanted() const { return wanted_; }

 private:
  std::vector<RowSlice> slices_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> wanted_;
};

}  // namespace kvlab

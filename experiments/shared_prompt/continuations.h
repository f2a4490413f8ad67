// Texts that rows continued one prompt with, and how alike two ways to them are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/runtime/equality.h"

namespace kvlab::experiments::shared_prompt_kind {

/// What a continuation is chosen from, for comparisons.
struct Continuations {
  std::vector<std::vector<int32_t>> tokens;             ///< per row
  std::vector<std::vector<std::vector<float>>> logits;  ///< per row and token, the first few
};

/// How alike two ways to the same continuations are.
struct ContinuationComparison {
  int64_t rows = 0, equal_rows = 0;
  int64_t unexplained = 0;  ///< rows that part where no compared logits say why
  LogitComparison logits;   ///< up to where texts part

  /// Every logit within the fp32 tolerance, and texts equal but where rounding decides a draw.
  bool equal() const;
  std::string describe() const;
};
ContinuationComparison compare(const Continuations& wanted, const Continuations& found);

}  // namespace kvlab::experiments::shared_prompt_kind

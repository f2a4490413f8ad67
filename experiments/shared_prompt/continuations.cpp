#include "continuations.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvlab::experiments::shared_prompt_kind {

bool ContinuationComparison::equal() const {
  return unexplained == 0 && logits.relative_difference() <= kEqualityTolerance;
}

std::string ContinuationComparison::describe() const {
  std::string text = fmt::format(
      "{} of {} texts equal; largest difference {:.2e} of the largest |logit| at {} tokens",
      equal_rows, rows, logits.relative_difference(), logits.tokens);
  if (unexplained > 0)
    text += fmt::format("; {} texts part beyond the compared logits", unexplained);
  return text;
}

ContinuationComparison compare(const Continuations& wanted, const Continuations& found) {
  ContinuationComparison comparison;
  comparison.rows = static_cast<int64_t>(wanted.tokens.size());
  LogitDistance distance;
  for (size_t row = 0; row < wanted.tokens.size(); ++row) {
    const auto& mine = wanted.tokens[row];
    const auto& other = found.tokens[row];
    const auto parting = static_cast<size_t>(
        std::mismatch(mine.begin(), mine.end(), other.begin(), other.end()).first - mine.begin());
    const bool equal = parting == mine.size() && mine.size() == other.size();
    const size_t compared = std::min(wanted.logits[row].size(), found.logits[row].size());
    comparison.equal_rows += equal ? 1 : 0;
    comparison.unexplained += !equal && parting >= compared ? 1 : 0;
    // The logits at the parting itself still come from the same text.
    for (size_t i = 0; i < std::min(compared, equal ? compared : parting + 1); ++i) {
      distance.add(wanted.logits[row][i], found.logits[row][i], static_cast<int64_t>(i), -1);
    }
  }
  comparison.logits = distance.result();
  return comparison;
}

}  // namespace kvlab::experiments::shared_prompt_kind

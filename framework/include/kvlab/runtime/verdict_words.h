// The verdicts a comparison ends in, found in the text of a report, so that pages and terminals can
// colour them. The words always stay: a colour alone tells nothing to many readers.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace kvlab {

enum class VerdictTone { better, worse, neutral, refused };

/// Where a verdict stands in a text.
struct VerdictPlace {
  std::size_t begin = 0, length = 0;
  VerdictTone tone = VerdictTone::neutral;

  bool operator==(const VerdictPlace&) const = default;
};

/// Finds "faster", "slower", "not distinguishable" and "refused" as verdicts: whole words at the
/// start of the text or after ": ". The same word inside a sentence is no verdict.
std::vector<VerdictPlace> verdict_places(std::string_view text);

}  // namespace kvlab

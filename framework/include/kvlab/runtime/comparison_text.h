// What a comparison says in sentences: ratio, verdict and bytes in the same words in every report.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvlab/runtime/comparison.h"
#include "kvlab/runtime/report_document.h"

namespace kvlab {

/// "[0.99, 1.05]", or "(one block)".
std::string interval_text(const RatioInterval& ratio);

/// "paged is 1.02x [0.99, 1.05] of preallocated by TTFT: not distinguishable (why)". The reason is left
/// out where the interval holds 1 and says it already. `by` names the figure; empty for none.
std::string comparison_text(const std::string& arm, const std::string& control,
                            const Comparison& found, const std::string& by = "");

/// "it holds 31 % fewer bytes": what an arm holds beside what the control holds.
std::string held_bytes_text(std::int64_t held, std::int64_t control);

/// "Noise: preallocated measured a second time is 1.00x [0.99, 1.01] of itself; a ratio
/// from 0.99 to 1.01 is no difference." `by` as above.
std::string noise_text(const std::string& control, const RatioInterval& noise,
                       const std::string& by = "");

/// The cell of a verdict.
ReportCell verdict_cell(Verdict verdict);

/// A comparison and what it is about: "paged against preallocated".
struct NamedComparison {
  std::string what;
  Comparison found;
};

/// "Differences that are not significant": those of all that were made, their number, the rule, and
/// when a sample is flagged.
ReportSection without_significance(const std::vector<NamedComparison>& comparisons);

}  // namespace kvlab

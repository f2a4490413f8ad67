// What the rows of a comparison are said to show, judged together.
#pragma once

#include <vector>

#include "kvlab/results/run_comparison.h"

namespace kvlab {

/// Sets `p_adjusted`, `verdict` and `fails` of all rows of one comparison: the more rows have an
/// interval, the likelier one of them excludes 1 by chance. Disturbed times and second controls are
/// not among the rows that count.
void judge_rows(const std::vector<ComparedMetric*>& rows, const CompareOptions& options);

}  // namespace kvlab

// All metrics of all cases of a sweep as one CSV.
#pragma once

#include <string>

#include "kvlab/sweep/sweep_folder.h"

namespace kvlab {

/// One line per case, arm, metric and group, by index; a case without metrics has one line. Columns:
/// index, name, the keys that vary, arm, metric, group, value, unit, n, ci_low, ci_high, timed,
/// status, reason. Depends on nothing but the plan and the cases' folders.
std::string merged_table(const SweepFolder& sweep);

/// A text that no spreadsheet takes for a formula: a leading = + - @, tab or line end gets a ' before
/// it, but for numbers.
std::string spreadsheet_text(const std::string& text);

}  // namespace kvlab

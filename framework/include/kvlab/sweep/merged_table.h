// All metrics of all cases of a sweep as one CSV.
#pragma once

#include <string>

#include "kvlab/sweep/sweep_folder.h"

namespace kvlab {

/// One line per case, arm, metric and group, by index; a case without metrics has one line.
/// Columns: index, name, the keys that vary, arm, metric, group, value, unit, n, ci_low, ci_high,
/// p, verdict, timed, status, reason. Texts are those of `csv_text_field`. Depends on nothing but
/// the plan and the folders of the cases.
std::string merged_table(const SweepFolder& sweep);

}  // namespace kvlab

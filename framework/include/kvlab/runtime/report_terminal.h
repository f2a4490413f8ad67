// A report's table as plain text columns, for a terminal or a log.
#pragma once

#include <string>

#include "kvlab/runtime/report_document.h"

namespace kvlab {

/// Aligned columns with headings and units; numbers to the right. Ends in a line break.
std::string terminal_table(const ReportTable& table);

}  // namespace kvlab

// The style sheet and the script of the report's HTML page, as text.
#pragma once

namespace kvlab::report_page {

extern const char* const kStyle;
extern const char* const kScript;

}  // namespace kvlab::report_page

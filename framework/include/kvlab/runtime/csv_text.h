// Text in CSV files that a spreadsheet may open.
#pragma once

#include <string>
#include <string_view>

namespace kvlab {

/// The content of a CSV field of words: text that a spreadsheet would take for a formula (it begins
/// with = + - @, a tab or a carriage return) gets a ' before it. Not for numbers, whose sign would
/// become text. Quoting is left to `csv_line` and `csv_field`.
std::string csv_text_field(std::string_view text);

}  // namespace kvlab

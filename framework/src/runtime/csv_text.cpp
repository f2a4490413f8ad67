#include "kvlab/runtime/csv_text.h"

namespace kvlab {

std::string csv_text_field(std::string_view text) {
  constexpr std::string_view kFormulaStarts = "=+-@\t\r";
  const bool formula = !text.empty() && kFormulaStarts.find(text.front()) != std::string_view::npos;
  return (formula ? "'" : "") + std::string(text);
}

}  // namespace kvlab

#include "report_code.h"

#include <algorithm>

namespace kvlab {

std::size_t lone_backtick(const std::string& text, std::size_t from) {
  for (std::size_t i = from; (i = text.find('`', i)) != std::string::npos;) {
    const std::size_t end = std::min(text.find_first_not_of('`', i), text.size());
    if (end == i + 1) return i;
    i = end;
  }
  return std::string::npos;
}

}  // namespace kvlab

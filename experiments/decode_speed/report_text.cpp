// How numbers and lists are written, in tables and sentences alike.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report_parts.h"

namespace kvlab::experiments::decode_speed_kind {

int decimals_of(double value) {
  if (!(std::abs(value) > 0) || !std::isfinite(value)) return 2;
  return std::clamp(2 - static_cast<int>(std::floor(std::log10(std::abs(value)))), 2, 6);
}

std::string digits(double value) { return fmt::format("{:.{}f}", value, decimals_of(value)); }

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

}  // namespace kvlab::experiments::decode_speed_kind

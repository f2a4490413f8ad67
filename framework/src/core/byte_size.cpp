#include "kvlab/core/byte_size.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <utility>

namespace kvlab {

namespace {

constexpr double kMostBytes = 1e18;

// Factor of a unit; 0 for an unknown one.
double unit_factor(std::string unit) {
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (unit.empty() || unit == "b") return 1;
  constexpr std::pair<const char*, double> kUnits[] = {
      {"kb", 1e3},  {"kib", 0x1p10}, {"mb", 1e6},  {"mib", 0x1p20}, {"gb", 1e9}, {"gib", 0x1p30},
      {"tb", 1e12}, {"tib", 0x1p40}, {"pb", 1e15}, {"pib", 0x1p50}, {"eb", 1e18}};
  for (const auto& [name, factor] : kUnits) {
    if (unit == name) return factor;
  }
  return 0;
}

}  // namespace

std::optional<int64_t> parse_byte_size(std::string_view text) {
  double number = 0;
  const auto [stop, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc{}) return std::nullopt;
  std::string_view unit = text.substr(static_cast<size_t>(stop - text.data()));
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  const double bytes = number * unit_factor(std::string(unit));
  if (!(bytes >= 1 && bytes <= kMostBytes)) return std::nullopt;
  return static_cast<int64_t>(bytes);
}

std::string format_byte_size(int64_t bytes) {
  constexpr std::pair<const char*, double> kUnits[] = {
      {"EB", 1e18}, {"PB", 1e15}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}};
  char text[32];
  for (const auto& [name, factor] : kUnits) {
    // From 999.5 of the unit below on, which three digits would write as 1e+03.
    if (static_cast<double>(bytes) < 0.9995 * factor) continue;
    const double number = std::max(1.0, static_cast<double>(bytes) / factor);
    std::snprintf(text, sizeof text, "%.3g %s", number, name);
    return text;
  }
  std::snprintf(text, sizeof text, "%lld B", static_cast<long long>(bytes));
  return text;
}

}  // namespace kvlab

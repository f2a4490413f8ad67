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

std::string ratio_digits(double ratio) {
  return ratio < 0.1 ? digits(ratio) : fmt::format("{:.2f}", ratio);
}

std::string place_words(const Findings& f, const CaseResult& one, const DepthResult& at) {
  bool models = false, precisions = false, batches = false;
  for (const CaseResult& other : f.cases()) {
    models = models || other.model != one.model;
    precisions = precisions || !(other.precision == one.precision);
    batches = batches || other.batch != one.batch;
  }
  std::vector<std::string> words;
  if (models) words.push_back(one.model->source.name);
  if (precisions) words.push_back(one.precision.label());
  if (batches) words.push_back(fmt::format("batch {}", one.batch));
  words.push_back(fmt::format("depth {}", at.depth));
  return joined(words);
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

}  // namespace kvlab::experiments::decode_speed_kind

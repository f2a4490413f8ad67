#include "block_values.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "kvlab/runtime/statistics.h"

namespace kvlab {

namespace {

using Json = nlohmann::json;

// Summaries keep all digits of a double; what is further off was computed otherwise.
constexpr double kAgreement = 1e-9;

bool in_group(const StoredSample& sample, const Json& json,
              const std::vector<std::pair<std::string, std::string>>& group) {
  for (const auto& [key, value] : group) {
    const auto found =
        json.find(key == "prompt_length" && sample.prompt_length ? "prompt_len" : key);
    if (found == json.end()) return false;
    if ((found->is_string() ? found->get<std::string>() : found->dump()) != value) return false;
  }
  return true;
}

std::vector<double> gaps_ms(const StoredSample& sample) {
  std::vector<double> gaps;
  for (const int64_t gap : sample.token_ns) gaps.push_back(static_cast<double>(gap) / 1e6);
  return gaps;
}

double tokens_per_second(const StoredSample& sample) {
  const int64_t ns =
      std::accumulate(sample.token_ns.begin(), sample.token_ns.end(), *sample.ttft_ns);
  return static_cast<double>(*sample.new_tokens * *sample.batch) * 1e9 / static_cast<double>(ns);
}

bool agrees(double summary, double computed) {
  return std::abs(computed - summary) <= kAgreement * std::abs(summary);
}

}  // namespace

std::vector<double> block_values(const StoredRun& run, const Metric& metric) {
  const bool tpot = metric.metric == "tpot", ttft = metric.metric == "ttft";
  const bool speed = metric.metric == "tokens_per_s";
  if (!(tpot || ttft || speed) || !std::isfinite(metric.value)) return {};
  std::vector<double> values, gaps;
  for (const StoredSample& sample : run.samples) {
    if (sample.arm != metric.arm || !sample.ttft_ns) continue;
    if (!in_group(sample, Json::parse(sample.json), metric.group)) continue;
    if (tpot) {
      if (sample.token_ns.empty()) continue;
      const std::vector<double> own = gaps_ms(sample);
      gaps.insert(gaps.end(), own.begin(), own.end());
      values.push_back(median(own));
    } else if (ttft) {
      values.push_back(static_cast<double>(*sample.ttft_ns) / 1e6);
    } else {
      if (!sample.new_tokens || !sample.batch) return {};
      values.push_back(tokens_per_second(sample));
    }
  }
  for (const double value : values) {
    if (!std::isfinite(value) || value <= 0) return {};
  }
  if (values.empty()) return {};
  // Summaries hold medians, of all gaps for tpot.
  return agrees(metric.value, median(tpot ? gaps : values)) ? values : std::vector<double>();
}

}  // namespace kvlab

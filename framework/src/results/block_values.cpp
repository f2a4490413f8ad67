#include "block_values.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>

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

bool flagged(const Json& json, const char* flag) {
  const auto flags = json.find("flags");
  if (flags == json.end() || !flags->is_object()) return false;
  const auto found = flags->find(flag);
  return found != flags->end() && found->is_boolean() && found->get<bool>();
}

// One block of one case: every arm has a sample in it.
using Block = std::tuple<std::optional<int64_t>, std::optional<int64_t>, std::optional<int64_t>>;

Block block_of(const StoredSample& sample) {
  return {sample.rep, sample.prompt_length, sample.batch};
}

struct ReadSample {
  const StoredSample* sample = nullptr;
  bool contended = false;
};

// The samples of the metric's arm and group, without the blocks in which any arm stood still.
std::vector<ReadSample> samples_of(const StoredRun& run, const Metric& metric) {
  std::set<Block> still;
  std::vector<ReadSample> found;
  for (const StoredSample& sample : run.samples) {
    const Json json = Json::parse(sample.json);
    if (flagged(json, "suspended")) still.insert(block_of(sample));
    if (sample.arm != metric.arm || !in_group(sample, json, metric.group)) continue;
    found.push_back({&sample, flagged(json, "contended")});
  }
  std::erase_if(found,
                [&](const ReadSample& one) { return still.contains(block_of(*one.sample)); });
  return found;
}

std::vector<double> values_of(const std::vector<ReadSample>& samples, const Metric& metric) {
  const bool tpot = metric.metric == "tpot", ttft = metric.metric == "ttft";
  const bool speed = metric.metric == "tokens_per_s";
  if (!(tpot || ttft || speed) || !std::isfinite(metric.value)) return {};
  std::vector<double> values, gaps;
  for (const ReadSample& one : samples) {
    const StoredSample& sample = *one.sample;
    if (!sample.ttft_ns) continue;
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

}  // namespace

BlockValues block_values(const StoredRun& run, const Metric& metric) {
  const std::vector<ReadSample> samples = samples_of(run, metric);
  BlockValues found;
  found.values = values_of(samples, metric);
  found.samples = static_cast<int64_t>(samples.size());
  found.contended = std::count_if(samples.begin(), samples.end(),
                                  [](const ReadSample& one) { return one.contended; });
  return found;
}

}  // namespace kvlab

// What the verdicts of a sweep's cases say together.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kvlab/runtime/comparison.h"
#include "kvlab/runtime/multiple_tests.h"
#include "sweep_cases.h"

namespace kvlab {

namespace {

constexpr double kSignificant = 0.05;  // adjusted p-values below it are findings

struct Judged {
  std::string ratio;  // what was compared, such as "ratio of paged64"
  std::string where;  // the case, with value and interval
  Verdict verdict = Verdict::refused;
  double p = std::numeric_limits<double>::quiet_NaN();
};

Judged judged(const SweepCases& sweep, const PlannedCase& one, const Metric& metric,
              Verdict verdict) {
  const std::string group = sweep.group_text(metric);
  const bool has_interval = std::isfinite(metric.ci_low) && std::isfinite(metric.ci_high);
  const std::string interval =
      has_interval ? fmt::format(" [{:.2f}, {:.2f}]", metric.ci_low, metric.ci_high) : "";
  return {metric.metric + " of " + metric.arm,
          fmt::format("{}{} {:.2f}{}", one.name, group.empty() ? "" : " " + group, metric.value,
                      interval),
          verdict, metric.p};
}

// The verdicts of all cases together: one family, whose p-values are adjusted once more.
std::vector<Judged> judge_again(const SweepCases& sweep) {
  std::vector<Judged> all;
  for (const PlannedCase& one : sweep.cases()) {
    const StoredRun* run = sweep.good_run_of(one);
    if (run == nullptr) continue;
    for (const Metric& metric : run->metrics) {
      const std::optional<Verdict> verdict = verdict_of_name(metric.verdict);
      if (verdict) all.push_back(judged(sweep, one, metric, *verdict));
    }
  }
  std::vector<double> p_values;
  for (const Judged& one : all) {
    if (std::isfinite(one.p)) p_values.push_back(one.p);
  }
  const std::vector<double> adjusted = holm_adjusted(p_values);
  size_t next = 0;
  for (Judged& one : all) {
    if (!std::isfinite(one.p)) continue;
    const bool differs = one.verdict == Verdict::faster || one.verdict == Verdict::slower;
    if (differs && adjusted[next] >= kSignificant) one.verdict = Verdict::not_distinguishable;
    ++next;
  }
  return all;
}

struct Found {
  std::vector<std::string> faster, slower;
  size_t open = 0, refused = 0;

  std::string in_words() const {
    std::string text;
    if (!faster.empty()) text += " faster at " + joined(faster) + ".";
    if (!slower.empty()) text += " slower at " + joined(slower) + ".";
    if (open > 0) text += fmt::format(" Not distinguishable in {} case(s).", open);
    if (refused > 0) {
      text += fmt::format(" Refused in {} case(s), whose reports say why.", refused);
    }
    return text;
  }
};

std::vector<std::pair<std::string, Found>> by_ratio(const std::vector<Judged>& all) {
  std::vector<std::pair<std::string, Found>> ratios;
  for (const Judged& one : all) {
    auto known = std::find_if(ratios.begin(), ratios.end(),
                              [&](const auto& entry) { return entry.first == one.ratio; });
    if (known == ratios.end()) known = ratios.insert(ratios.end(), {one.ratio, {}});
    switch (one.verdict) {
      case Verdict::faster: known->second.faster.push_back(one.where); break;
      case Verdict::slower: known->second.slower.push_back(one.where); break;
      case Verdict::not_distinguishable: ++known->second.open; break;
      case Verdict::refused: ++known->second.refused; break;
    }
  }
  return ratios;
}

// How far the control is from itself, over all cases: differences as large are none.
std::string noise_in_words(const SweepCases& sweep) {
  std::vector<double> ratios;
  for (const PlannedCase& one : sweep.cases()) {
    const StoredRun* run = sweep.good_run_of(one);
    if (run == nullptr) continue;
    for (const Metric& metric : run->metrics) {
      if (sweep.is_noise(metric.arm) && is_ratio(metric)) ratios.push_back(metric.value);
    }
  }
  if (ratios.empty()) return "";
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return fmt::format("Noise: {} measured a second time is {:.2f}x to {:.2f}x of itself (n={}).",
                     sweep.control(), *low, *high, ratios.size());
}

std::string what_is_missing(const SweepCases& sweep) {
  size_t skipped = 0, failed = 0;
  for (const PlannedCase& one : sweep.cases()) {
    const std::string status = sweep.status_of(one);
    skipped += status == "skipped" ? 1 : 0;
    failed += status != "skipped" && status != "ok" ? 1 : 0;
  }
  if (skipped + failed == 0) return "";
  return fmt::format("Of {} cases {} were skipped as incompatible and {} did not end well.",
                     sweep.cases().size(), skipped, failed);
}

}  // namespace

std::vector<std::string> sweep_conclusions(const SweepCases& sweep) {
  std::vector<std::string> sentences;
  const std::vector<Judged> all = judge_again(sweep);
  for (const auto& [name, found] : by_ratio(all)) {
    sentences.push_back(name + ":" + found.in_words());
  }
  if (!all.empty()) {
    sentences.push_back(fmt::format(
        "These are the verdicts of the cases' own reports; {} comparisons were made in all cases "
        "together, and a difference counts where p stays below {} after Holm's adjustment for "
        "that number.",
        all.size(), kSignificant));
  }
  for (std::string sentence : {noise_in_words(sweep), what_is_missing(sweep)}) {
    if (!sentence.empty()) sentences.push_back(std::move(sentence));
  }
  if (sentences.empty()) sentences.push_back("No firm conclusion.");
  return sentences;
}

}  // namespace kvlab

// The parts of the report. Each adds to a section or a list what one case says.
#pragma once

#include <string>
#include <vector>

#include "findings.h"
#include "kvlab/runtime/comparison_text.h"

namespace kvlab::experiments::decode_speed_kind {

inline constexpr double kMillion = 1e6;
inline constexpr double kBillion = 1e9;

/// Collects the numbers of `summary.json` beside the tables that show them.
class MetricList {
 public:
  MetricList(const Findings& findings, std::vector<Metric>& metrics)
      : findings_(findings), metrics_(metrics) {}

  /// A number that the same run repeated gives again. `at` may be null: it belongs to no depth.
  Metric& add(const CaseResult& one, const DepthResult* at, size_t arm, const char* metric,
              double value, const char* unit, size_t n, BetterDirection direction);

  /// A number that comes from a clock.
  Metric& add_timed(const CaseResult& one, const DepthResult* at, size_t arm, const char* metric,
                    double value, const char* unit, size_t n, BetterDirection direction);

  /// A ratio of times with its interval.
  Metric& add_ratio(const CaseResult& one, const DepthResult& at, size_t arm, const char* metric,
                    const RatioInterval& ratio, BetterDirection direction);

 private:
  const Findings& findings_;
  std::vector<Metric>& metrics_;
};

/// Steps by depth, what they read, where their time goes, what the caches hold, and the prompts.
void add_tables(ReportSection& section, const Findings& f, const CaseResult& one,
                MetricList& metrics);

/// Time per step and share of the floor by depth.
void add_figures(ReportSection& section, const Findings& f, const CaseResult& one);

/// What all cases say together, in few sentences: what a step of the control takes, one for each
/// other arm with its verdicts and its deepest case, and the noise. Empty where nothing was timed.
std::vector<std::string> answer(const Findings& f);

/// What one case says: the control, then one sentence for each other arm with its verdict at every
/// depth, the noise, and what bounds a step. They do not name the case.
std::vector<std::string> conclude(const Findings& f, const CaseResult& one);

/// Differences that are none by the rule, over all cases, with the rule, the number of comparisons,
/// the noise and the samples that were flagged.
ReportSection without_significance(const Findings& f);

/// "batch 8, depth 960": what tells a place of this run apart from its others.
std::string place_words(const Findings& f, const CaseResult& one, const DepthResult& at);

/// A ratio with two digits after the point, as people say it; more where that would leave nothing.
std::string ratio_digits(double ratio);

/// Said of an arm that recomputes, where the others have their share of the floor.
inline constexpr const char* kNoFloor = "no floor: it reads no cache, it computes";

/// Digits after the point that show three significant ones, and at least two.
int decimals_of(double value);

/// A number with `decimals_of` digits after the point.
std::string digits(double value);

/// "a, b, c".
std::string joined(const std::vector<std::string>& parts, const char* between = ", ");

}  // namespace kvlab::experiments::decode_speed_kind

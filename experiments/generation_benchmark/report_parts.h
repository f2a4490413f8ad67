// The parts of a benchmark's report. Each adds to a section or a list what one case says.
#pragma once

#include <string>
#include <vector>

#include "findings.h"

namespace kvlab::experiments {

/// Collects the numbers of `summary.json` beside the tables that show them.
class MetricList {
 public:
  MetricList(const Findings& findings, std::vector<Metric>& metrics)
      : findings_(findings), metrics_(metrics) {}

  /// A number that the same run repeated gives again.
  Metric& add(size_t arm, size_t i, const char* name, double value, const char* unit, size_t n,
              BetterDirection direction);

  /// A number that comes from a clock.
  Metric& add_timed(size_t arm, size_t i, const char* name, double value, const char* unit,
                    size_t n, BetterDirection direction);

 private:
  const Findings& findings_;
  std::vector<Metric>& metrics_;
};

/// Main table, time split, memory, work, output lengths and what each arm has other than the
/// control.
void add_tables(ReportSection& section, const Findings& findings, size_t i, MetricList& metrics);

/// Speed, speed-up and latency by length, bytes, and quality where an arm is approximate.
void add_figures(ReportSection& section, const Findings& findings, size_t i, MetricList& metrics);

/// One sentence for each arm, the noise, and what bounds the run.
std::vector<std::string> conclude(const Findings& findings, size_t i);

/// One sentence for each arm that holds less than the memory reference and was not found faster:
/// what a step reads less, and what its attention and cache take.
std::vector<std::string> explain_savings(const Findings& findings, size_t i);

/// Differences that are none by the rule, over all cases, with the rule and the number of
/// comparisons.
ReportSection without_significance(const Findings& findings);

}  // namespace kvlab::experiments

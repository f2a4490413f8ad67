// The cases of a sweep beside their runs, as its report asks for them. Private to the report.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kvlab/results/run_reader.h"
#include "kvlab/sweep/sweep_report.h"

namespace kvlab {

class SweepCases {
 public:
  /// `stored` must outlive this object.
  SweepCases(const StoredRuns& stored, std::string control);

  const std::vector<PlannedCase>& cases() const { return stored_.cases; }
  const std::vector<StoredRun>& runs() const { return stored_.runs; }
  const std::vector<SweepAxis>& axes() const { return axes_; }
  const std::string& control() const { return control_; }

  /// What the case sets each axis to; empty where it does not set it.
  std::vector<std::string> values_of(const PlannedCase& one) const;

  /// Null where the case has no run.
  const StoredRun* run_of(const PlannedCase& one) const;

  std::string status_of(const PlannedCase& one) const;
  std::string reason_of(const PlannedCase& one) const;

  /// The run of a case that ended well; null for all others.
  const StoredRun* good_run_of(const PlannedCase& one) const;

  /// The parts of a metric's group that differ somewhere in the sweep: "batch=4".
  std::string group_text(const Metric& metric) const;

  /// Whether any of them differs.
  bool has_groups() const;

  /// Those that never differ: "prompt_length: 8".
  std::vector<std::string> fixed_groups() const;

  /// Names of metrics in the order in which the cases give them, with unit and direction.
  std::vector<Metric> metric_kinds() const;

  /// Whether the arm is the control measured a second time.
  bool is_noise(const std::string& arm) const;

 private:
  const StoredRuns& stored_;
  std::string control_;
  std::vector<SweepAxis> axes_;
  std::map<int64_t, const StoredRun*> runs_;
  std::map<std::string, std::set<std::string>> group_values_;  // of all metrics, by key
};

/// "16", and "[16]": a list of one is its number.
std::optional<double> number_of(std::string text);

std::string joined(const std::vector<std::string>& parts, const char* between = ", ");

/// A ratio to the control: it has an interval and no unit, and 1 means no difference.
bool is_ratio(const Metric& metric);

/// A figure for each numeric axis and metric with a direction: a line for each arm, group and
/// choice of the other axes.
std::vector<ReportFigure> sweep_figures(const SweepCases& sweep);

/// What the verdicts say in sentences, all of them judged as one family, the noise, and what is
/// missing.
std::vector<std::string> sweep_conclusions(const SweepCases& sweep);

}  // namespace kvlab

// One report over all cases of a sweep: what each case found, how it changes along the axes, and
// what was skipped or failed.
#pragma once

#include <string>
#include <vector>

#include "kvlab/results/run_reader.h"
#include "kvlab/runtime/report_document.h"

namespace kvlab {

/// What the report says beside the numbers.
struct SweepReportText {
  std::string title, question;
  std::string primary_metric = {};
  std::string experiment = {};  ///< the kind of its cases
  std::string control = {};     ///< arm that ratios refer to; may be empty
  std::string command = {};     ///< repeats the sweep
};

/// A key that the overrides of a sweep's cases set to more than one value.
struct SweepAxis {
  std::string key;
  std::vector<std::string> values;  ///< in the order of the plan
  bool numeric = false;             ///< every value is a number: figures have it as their x axis
};

/// The axes of a plan, in the order in which its cases name them.
std::vector<SweepAxis> sweep_axes(const std::vector<PlannedCase>& cases);

/// Builds the report: a table of cases, one of numbers (case x arm x group), a figure per numeric
/// axis and metric with its intervals, failed checks, skipped and failed cases, and for every ratio
/// that the cases judged a sentence that names the ones in which it differs.
ReportDocument make_sweep_report(const StoredRuns& stored, const SweepReportText& text);

}  // namespace kvlab

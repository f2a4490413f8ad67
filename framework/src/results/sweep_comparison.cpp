#include "kvlab/results/sweep_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "kvlab/core/error.h"
#include "row_verdicts.h"

namespace kvlab {

namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

constexpr size_t kMostNames = 5;  // in a message

Settings settings_of(const PlannedCase& planned) {
  Settings settings = override_values(planned.overrides);
  std::sort(settings.begin(), settings.end());
  return settings;
}

// The run of each case that was not skipped.
std::map<int64_t, const StoredRun*> runs_by_case(const StoredRuns& sweep, const char* which) {
  std::map<int64_t, const StoredRun*> runs;
  for (const StoredRun& run : sweep.runs) {
    // A dot is in the name of an attempt, or of a failed run that was put aside.
    if (run.case_index && run.name.find('.') == std::string::npos) runs[*run.case_index] = &run;
  }
  int64_t missing = 0;
  for (const PlannedCase& planned : sweep.cases) {
    if (!planned.skipped && !runs.contains(planned.index)) ++missing;
  }
  KVLAB_CHECK(missing == 0, "[results.compare] ", missing, " of ", sweep.cases.size(),
              " cases of sweep ", which,
              " never ran. Finish it with kvlab sweep --resume FOLDER, then compare");
  return runs;
}

bool ended_well(const StoredRun& run) {
  return run.status == run_status_name(RunStatus::ok);
}

bool has_selected(const StoredRun& run, const CompareOptions& options) {
  const auto chosen = [](const std::vector<std::string>& wanted, const std::string& name) {
    return wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
  };
  return std::any_of(run.metrics.begin(), run.metrics.end(), [&](const Metric& metric) {
    return chosen(options.metrics, metric.metric) && chosen(options.arms, metric.arm);
  });
}

std::string first_names(const std::vector<PlannedCase>& cases) {
  std::string text;
  for (size_t i = 0; i < std::min(cases.size(), kMostNames); ++i) {
    text += (i == 0 ? "" : "; ") + cases[i].name;
  }
  if (cases.size() > kMostNames) text += fmt::format("; and {} more", cases.size() - kMostNames);
  return text;
}

// What became of a case, where that is no run that ended well.
std::string end_of(const PlannedCase& planned, const StoredRun* run) {
  if (planned.skipped) {
    return "skipped" + (planned.reasons.empty() ? "" : ": " + planned.reasons.front());
  }
  return run->status + (run->message.empty() ? "" : ": " + run->message);
}

class SweepPairing {
 public:
  SweepPairing(const StoredRuns& a, const StoredRuns& b, const CompareOptions& options)
      : a_(a), b_(b), options_(options), runs_a_(runs_by_case(a, "A")),
        runs_b_(runs_by_case(b, "B")) {}

  SweepComparison compare() {
    found_.has_rule = options_.rule.has_value();
    std::map<Settings, const PlannedCase*> in_b;
    for (const PlannedCase& planned : b_.cases) in_b[settings_of(planned)] = &planned;
    int64_t shared = 0;
    std::set<int64_t> matched;
    for (const PlannedCase& planned : a_.cases) {
      const auto other = in_b.find(settings_of(planned));
      if (other == in_b.end()) {
        const bool well = !planned.skipped && ended_well(*runs_a_.at(planned.index));
        found_.uncompared.push_back({planned.name, "only in A", well});
        continue;
      }
      ++shared;
      matched.insert(other->second->index);
      pair(planned, *other->second);
    }
    KVLAB_CHECK(shared > 0, "[results.compare] no case of A is one of B. A has: ",
                first_names(a_.cases), ". B has: ", first_names(b_.cases),
                ". Compare sweeps that vary the same keys over the same values");
    for (const PlannedCase& planned : b_.cases) {
      if (!matched.contains(planned.index)) {
        found_.uncompared.push_back({planned.name, "only in B", false});
      }
    }
    const auto nowhere = [](const std::vector<std::string>& wanted,
                            const std::set<std::string>& seen) {
      return std::any_of(wanted.begin(), wanted.end(),
                         [&](const std::string& name) { return !seen.contains(name); });
    };
    const bool unknown = nowhere(options_.metrics, metrics_) || nowhere(options_.arms, arms_);
    if (first_pair_.first != nullptr && (unknown || found_.cases.empty())) {
      // Throws: the message says what there is.
      (void)compare_runs(*first_pair_.first, *first_pair_.second, options_);
    }
    return std::move(found_);
  }

 private:
  void pair(const PlannedCase& a, const PlannedCase& b) {
    if (a.skipped && b.skipped) {
      ++found_.skipped;
      return;
    }
    const StoredRun* run_a = a.skipped ? nullptr : runs_a_.at(a.index);
    const StoredRun* run_b = b.skipped ? nullptr : runs_b_.at(b.index);
    const bool well_a = run_a != nullptr && ended_well(*run_a);
    const bool well_b = run_b != nullptr && ended_well(*run_b);
    if (!well_a || !well_b) {
      const std::string in_a = well_a ? "ok" : end_of(a, run_a);
      const std::string in_b = well_b ? "ok" : end_of(b, run_b);
      found_.uncompared.push_back({a.name, in_a + " in A, " + in_b + " in B", well_a});
      return;
    }
    if (first_pair_.first == nullptr) first_pair_ = {run_a, run_b};
    for (const StoredRun* run : {run_a, run_b}) {
      for (const Metric& metric : run->metrics) {
        metrics_.insert(metric.metric);
        arms_.insert(metric.arm);
      }
    }
    if (!has_selected(*run_a, options_) && !has_selected(*run_b, options_)) return;
    // A metric of one case need not be in another.
    CompareOptions here = options_;
    std::erase_if(here.metrics,
                  [&](const std::string& name) { return !has(*run_a, *run_b, name); });
    std::erase_if(here.arms,
                  [&](const std::string& name) { return !has_arm(*run_a, *run_b, name); });
    found_.cases.push_back({a.name, compare_runs(*run_a, *run_b, here)});
  }

  static bool any_metric(const StoredRun& a, const StoredRun& b, const auto& fits) {
    return std::any_of(a.metrics.begin(), a.metrics.end(), fits) ||
           std::any_of(b.metrics.begin(), b.metrics.end(), fits);
  }
  static bool has(const StoredRun& a, const StoredRun& b, const std::string& name) {
    return any_metric(a, b, [&](const Metric& metric) { return metric.metric == name; });
  }
  static bool has_arm(const StoredRun& a, const StoredRun& b, const std::string& name) {
    return any_metric(a, b, [&](const Metric& metric) { return metric.arm == name; });
  }

  const StoredRuns& a_;
  const StoredRuns& b_;
  const CompareOptions& options_;
  std::map<int64_t, const StoredRun*> runs_a_, runs_b_;
  std::pair<const StoredRun*, const StoredRun*> first_pair_{nullptr, nullptr};
  std::set<std::string> metrics_, arms_;  // of all runs that are compared
  SweepComparison found_;
};

}  // namespace

bool SweepComparison::fails() const {
  return std::any_of(uncompared.begin(), uncompared.end(),
                     [](const UncomparedCase& one) { return one.fails; }) ||
         std::any_of(cases.begin(), cases.end(),
                     [](const ComparedCase& one) { return one.runs.fails(); });
}

SweepComparison compare_sweeps(const StoredRuns& a, const StoredRuns& b,
                               const CompareOptions& options) {
  SweepComparison found = SweepPairing(a, b, options).compare();
  // The cases are one comparison: each was judged by itself so far.
  std::vector<ComparedMetric*> rows;
  for (ComparedCase& one : found.cases) {
    for (ComparedMetric& row : one.runs.metrics) rows.push_back(&row);
  }
  judge_rows(rows, options);
  return found;
}

ReportTable comparison_table(const SweepComparison& comparison) {
  ReportTable whole = comparison_table(RunComparison{});
  whole.columns.insert(whole.columns.begin(), {"case", "case"});
  for (const ComparedCase& one : comparison.cases) {
    for (std::vector<ReportCell>& row : comparison_table(one.runs).rows) {
      row.insert(row.begin(), text_cell(one.name));
      whole.rows.push_back(std::move(row));
    }
  }
  return whole;
}

}  // namespace kvlab

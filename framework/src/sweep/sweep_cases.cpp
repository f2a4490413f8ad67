#include "sweep_cases.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kvlab/runtime/arm_trials.h"

namespace kvlab {

SweepCases::SweepCases(const StoredRuns& stored, std::string control)
    : stored_(stored), control_(std::move(control)), axes_(sweep_axes(stored.cases)) {
  for (const StoredRun& run : stored.runs) {
    if (run.case_index) runs_[*run.case_index] = &run;
    for (const Metric& metric : run.metrics) {
      for (const auto& [key, value] : metric.group) group_values_[key].insert(value);
    }
  }
}

std::vector<std::string> SweepCases::values_of(const PlannedCase& one) const {
  std::map<std::string, std::string> set;
  for (const auto& [key, value] : override_values(one.overrides)) set[key] = value;
  std::vector<std::string> values;
  for (const SweepAxis& axis : axes_) {
    const auto found = set.find(axis.key);
    values.push_back(found == set.end() ? "" : found->second);
  }
  return values;
}

const StoredRun* SweepCases::run_of(const PlannedCase& one) const {
  const auto found = runs_.find(one.index);
  return found == runs_.end() ? nullptr : found->second;
}

std::string SweepCases::status_of(const PlannedCase& one) const {
  if (one.skipped) return "skipped";
  const StoredRun* run = run_of(one);
  return run == nullptr ? "not run" : run->status;
}

std::string SweepCases::reason_of(const PlannedCase& one) const {
  if (one.skipped) return joined(one.reasons, "; ");
  const StoredRun* run = run_of(one);
  if (run == nullptr) return "it was not started or did not end";
  if (!run->message.empty()) return run->message;
  std::vector<std::string> reasons;
  for (const ReportFailure& failure : run->failures) {
    reasons.push_back(failure.what + ": " + failure.reason);
  }
  for (const ReportCheck& check : run->checks) {
    if (!check.passed) reasons.push_back(check.arm + ": " + check.check);
  }
  return joined(reasons, "; ");
}

const StoredRun* SweepCases::good_run_of(const PlannedCase& one) const {
  const StoredRun* run = run_of(one);
  return run != nullptr && run->status == "ok" ? run : nullptr;
}

std::string SweepCases::group_text(const Metric& metric) const {
  std::vector<std::string> parts;
  for (const auto& [key, value] : metric.group) {
    if (group_values_.at(key).size() > 1) parts.push_back(key + "=" + value);
  }
  return joined(parts, " ");
}

bool SweepCases::has_groups() const {
  return std::any_of(group_values_.begin(), group_values_.end(),
                     [](const auto& group) { return group.second.size() > 1; });
}

std::vector<std::string> SweepCases::fixed_groups() const {
  std::vector<std::string> fixed;
  for (const auto& [key, values] : group_values_) {
    if (values.size() == 1) fixed.push_back(key + ": " + *values.begin());
  }
  return fixed;
}

std::vector<Metric> SweepCases::metric_kinds() const {
  std::vector<Metric> kinds;
  for (const StoredRun& run : stored_.runs) {
    for (const Metric& metric : run.metrics) {
      const bool known = std::any_of(kinds.begin(), kinds.end(), [&](const Metric& kind) {
        return kind.metric == metric.metric;
      });
      if (!known) kinds.push_back(metric);
    }
  }
  return kinds;
}

bool SweepCases::is_noise(const std::string& arm) const { return arm == control_ + kAgainSuffix; }

std::optional<double> number_of(std::string text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || stop != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

bool is_ratio(const Metric& metric) {
  return metric.metric.find("ratio") != std::string::npos && metric.unit.empty() &&
         std::isfinite(metric.ci_low) && std::isfinite(metric.ci_high);
}

std::vector<SweepAxis> sweep_axes(const std::vector<PlannedCase>& cases) {
  std::vector<SweepAxis> axes;
  for (const PlannedCase& one : cases) {
    for (const auto& [key, value] : override_values(one.overrides)) {
      auto axis = std::find_if(axes.begin(), axes.end(),
                               [&, name = key](const SweepAxis& known) {
                                 return known.key == name;
                               });
      if (axis == axes.end()) axis = axes.insert(axes.end(), {key, {}, false});
      if (std::find(axis->values.begin(), axis->values.end(), value) == axis->values.end()) {
        axis->values.push_back(value);
      }
    }
  }
  std::erase_if(axes, [](const SweepAxis& axis) { return axis.values.size() < 2; });
  for (SweepAxis& axis : axes) {
    axis.numeric = std::all_of(
        axis.values.begin(), axis.values.end(),
        [](const std::string& value) { return number_of(value).has_value(); });
  }
  return axes;
}

}  // namespace kvlab

#include "kvlab/results/run_comparison.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include <fmt/format.h>

#include "block_values.h"
#include "kvlab/core/component.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_trials.h"
#include "kvlab/runtime/config_node.h"
#include "kvlab/runtime/statistics.h"
#include "result_names.h"
#include "row_verdicts.h"

namespace kvlab {

namespace {

using Key = std::tuple<std::string, std::string, std::string>;

Key key_of(const Metric& metric) { return {metric.arm, metric.metric, group_text(metric.group)}; }

std::string name_of(const Metric& metric) {
  const std::string group = group_text(metric.group);
  return metric.arm + ", " + metric.metric + (group.empty() ? "" : ", " + group);
}

bool chosen(const std::vector<std::string>& wanted, const std::string& name) {
  return wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
}

std::vector<std::string> names_in(const StoredRun& a, const StoredRun& b,
                                  std::string Metric::*field) {
  std::set<std::string> names;
  for (const StoredRun* run : {&a, &b}) {
    for (const Metric& metric : run->metrics) names.insert(metric.*field);
  }
  return {names.begin(), names.end()};
}

void check_known(const std::vector<std::string>& wanted, const std::vector<std::string>& known,
                 const char* what) {
  for (const std::string& name : wanted) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw UserError(detail::concat("[results.compare] neither run has the ", what, " '", name,
                                     "'.", suggestion(name, known)));
    }
  }
}

// Every scalar of a config by its path; items of a list that have a name go by it.
void flatten(const ConfigNode& node, const std::string& path,
             std::map<std::string, std::string>& values) {
  const auto inner = [&](const std::string& name) {
    return path.empty() ? name : path + "." + name;
  };
  if (node.is_scalar()) {
    values[path] = node.text();
  } else if (node.is_map()) {
    for (const auto& [key, value] : node.entries()) flatten(value, inner(key), values);
  } else {
    for (size_t i = 0; i < node.items().size(); ++i) {
      const ConfigNode& item = node.items()[i];
      const ConfigNode* name = item.is_map() ? item.find("name") : nullptr;
      const bool named = name != nullptr && name->is_scalar();
      flatten(item, inner(named ? name->text() : std::to_string(i)), values);
    }
  }
}

std::vector<RunDifference> differences(const std::map<std::string, std::string>& a,
                                       const std::map<std::string, std::string>& b) {
  constexpr const char* kAbsent = "(absent)";
  std::vector<RunDifference> found;
  std::set<std::string> keys;
  for (const auto* side : {&a, &b}) {
    for (const auto& [key, value] : *side) keys.insert(key);
  }
  for (const std::string& key : keys) {
    const auto in_a = a.find(key), in_b = b.find(key);
    const std::string left = in_a == a.end() ? kAbsent : in_a->second;
    const std::string right = in_b == b.end() ? kAbsent : in_b->second;
    if (left != right) found.push_back({key, left, right});
  }
  return found;
}

std::map<std::string, std::string> config_values(const StoredRun& run) {
  std::map<std::string, std::string> values;
  flatten(parse_config_text(run.config, run.folder + "/config/resolved.yaml"), "", values);
  return values;
}

std::map<std::string, std::string> environment_values(const StoredRun& run) {
  std::map<std::string, std::string> values;
  for (const ReportFact& fact : run.environment) {
    // Memory available and load change by the minute on the same machine.
    if (fact.name == "memory available" || fact.name.rfind("load", 0) == 0) continue;
    values[fact.name] = fact.value;
  }
  return values;
}

std::vector<ReportCheck> broken_checks(const StoredRun& a, const StoredRun& b) {
  std::map<std::pair<std::string, std::string>, bool> passed_in_a;
  for (const ReportCheck& check : a.checks) {
    const auto [entry, is_new] = passed_in_a.try_emplace({check.arm, check.check}, check.passed);
    if (!is_new) entry->second = entry->second && check.passed;
  }
  std::vector<ReportCheck> broken;
  for (const ReportCheck& check : b.checks) {
    const auto before = passed_in_a.find({check.arm, check.check});
    if (!check.passed && before != passed_in_a.end() && before->second) broken.push_back(check);
  }
  return broken;
}

// Ratios of numbers that may be zero or negative say nothing, but for equal ones.
std::optional<ComparedRatio> plain_ratio(double a, double b) {
  if (!std::isfinite(a) || !std::isfinite(b)) return {};
  if (a == b) return ComparedRatio{1.0, {}, {}};
  if (a <= 0 || b < 0) return {};
  return ComparedRatio{b / a, {}, {}};
}

// Runs of an earlier version do not say which numbers come from a clock; these units do.
bool is_timed(const Metric& metric) {
  static const std::set<std::string> kTimeUnits = {"ns", "us", "ms", "s", "tokens/s"};
  return metric.timed || kTimeUnits.count(metric.unit) > 0 || metric.metric == "speed_ratio" ||
         metric.metric == "break_even";
}

bool mostly_disturbed(const BlockValues& found) { return 2 * found.contended > found.samples; }

bool is_second_control(const StoredRun& run, const std::string& arm) {
  if (!arm.ends_with(kAgainSuffix)) return false;
  const std::string first = arm.substr(0, arm.size() - std::string_view(kAgainSuffix).size());
  return std::any_of(run.metrics.begin(), run.metrics.end(),
                     [&](const Metric& metric) { return metric.arm == first; });
}

ComparedMetric compare_metric(const StoredRun& run_a, const Metric& a, const StoredRun& run_b,
                              const Metric& b, const CompareOptions& options) {
  ComparedMetric row;
  row.arm = a.arm;
  row.metric = a.metric;
  row.group = group_text(a.group);
  row.unit = a.unit;
  row.direction = a.direction;
  KVLAB_CHECK(a.unit == b.unit, "[results.compare] ", name_of(a), ": the runs use two units, '",
              a.unit, "' and '", b.unit, "'");
  row.a = a.value;
  row.b = b.value;
  row.n_a = a.n;
  row.n_b = b.n;
  row.timed = is_timed(a) || is_timed(b);
  row.second_control = is_second_control(run_a, a.arm);
  const BlockValues in_a = block_values(run_a, a), in_b = block_values(run_b, b);
  row.disturbed = mostly_disturbed(in_a) || mostly_disturbed(in_b);
  row.from_samples = !in_a.values.empty() && !in_b.values.empty();
  if (row.from_samples) {
    row.a = geometric_mean(in_a.values);
    row.b = geometric_mean(in_b.values);
    row.n_a = static_cast<int64_t>(in_a.values.size());
    row.n_b = static_cast<int64_t>(in_b.values.size());
    row.ratio = unpaired_ratio(in_a.values, in_b.values, options.seed);
    row.p = unpaired_t_test(in_a.values, in_b.values);
  } else {
    row.ratio = plain_ratio(a.value, b.value);
  }
  return row;
}

std::string change_text(double ratio) { return fmt::format("{:+.1f} %", (ratio - 1) * 100); }

}  // namespace

FailRule parse_fail_rule(std::string_view text) {
  FailRule rule;
  rule.text = std::string(text);
  std::string rest;
  for (const char c : text) {
    if (c != ' ') rest += c;
  }
  const auto refuse = [&]() {
    throw UserError("[results.fail_rule] '" + rule.text +
                    "' is no rule; write > or <, a number, and % for a change from A to B or x for "
                    "the ratio B/A: '>5%', '<-3%', '>1.05x'");
  };
  if (rest.size() < 3 || (rest.front() != '>' && rest.front() != '<')) refuse();
  rule.above = rest.front() == '>';
  const char unit = rest.back();
  if (unit != '%' && unit != 'x') refuse();
  std::string_view number = std::string_view(rest).substr(1, rest.size() - 2);
  // A plus is no number to from_chars.
  if (number.size() > 1 && number[0] == '+' && number[1] != '-') number.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value,
                                            std::chars_format::fixed);
  if (error != std::errc() || end != number.data() + number.size() || !std::isfinite(value)) {
    refuse();
  }
  rule.limit = unit == '%' ? 1 + value / 100 : value;
  KVLAB_CHECK(rule.limit > 0, "[results.fail_rule] '", rule.text,
              "' can never be met or always is: the ratio B/A is above 0, the limit ", rule.limit);
  return rule;
}

const char* change_verdict_name(ChangeVerdict verdict) {
  switch (verdict) {
    case ChangeVerdict::equal: return "equal";
    case ChangeVerdict::better: return "better";
    case ChangeVerdict::worse: return "worse";
    case ChangeVerdict::larger: return "larger";
    case ChangeVerdict::smaller: return "smaller";
    case ChangeVerdict::not_distinguishable: return "not distinguishable";
    case ChangeVerdict::refused: return "refused";
    case ChangeVerdict::no_interval: return "no interval";
    case ChangeVerdict::not_comparable: return "not comparable";
  }
  return "?";
}

int64_t RunComparison::tests() const {
  return std::count_if(metrics.begin(), metrics.end(),
                       [](const ComparedMetric& row) { return row.p_adjusted.has_value(); });
}

int64_t RunComparison::refused() const {
  return std::count_if(metrics.begin(), metrics.end(), [](const ComparedMetric& row) {
    return row.verdict == ChangeVerdict::refused;
  });
}

bool RunComparison::fails() const {
  if (!broken_checks.empty()) return true;
  if (!has_rule) return false;
  return !only_in_a.empty() || std::any_of(metrics.begin(), metrics.end(),
                                           [](const ComparedMetric& row) { return row.fails; });
}

RunComparison compare_runs(const StoredRun& a, const StoredRun& b, const CompareOptions& options) {
  check_finished(a);
  check_finished(b);
  check_known(options.metrics, names_in(a, b, &Metric::metric), "metric");
  check_known(options.arms, names_in(a, b, &Metric::arm), "arm");
  const auto selected = [&](const Metric& metric) {
    return chosen(options.metrics, metric.metric) && chosen(options.arms, metric.arm);
  };
  RunComparison comparison;
  comparison.has_rule = options.rule.has_value();
  // The k-th row of a name in A stands beside the k-th in B.
  std::map<Key, std::vector<const Metric*>> in_b;
  for (const Metric& metric : b.metrics) {
    if (selected(metric)) in_b[key_of(metric)].push_back(&metric);
  }
  for (const Metric& metric : a.metrics) {
    if (!selected(metric)) continue;
    std::vector<const Metric*>& others = in_b[key_of(metric)];
    if (others.empty()) {
      comparison.only_in_a.push_back(name_of(metric));
    } else {
      comparison.metrics.push_back(compare_metric(a, metric, b, *others.front(), options));
      others.erase(others.begin());
    }
  }
  for (const Metric& metric : b.metrics) {
    if (!selected(metric)) continue;
    const std::vector<const Metric*>& left = in_b[key_of(metric)];
    if (std::find(left.begin(), left.end(), &metric) != left.end()) {
      comparison.only_in_b.push_back(name_of(metric));
    }
  }
  std::vector<ComparedMetric*> rows;
  for (ComparedMetric& row : comparison.metrics) rows.push_back(&row);
  judge_rows(rows, options);
  comparison.config = differences(config_values(a), config_values(b));
  comparison.environment = differences(environment_values(a), environment_values(b));
  comparison.broken_checks = broken_checks(a, b);
  for (const ReportFailure& failure : b.failures) {
    const bool known = std::any_of(a.failures.begin(), a.failures.end(), [&](const auto& earlier) {
      return earlier.what == failure.what;
    });
    if (!known) comparison.new_failures.push_back(failure);
  }
  KVLAB_CHECK(!comparison.metrics.empty() || !comparison.only_in_a.empty(),
              "[results.compare] A has no such metric in such an arm; it has the metrics ",
              fmt::format("{}", fmt::join(names_in(a, a, &Metric::metric), ", ")), " of ",
              fmt::format("{}", fmt::join(names_in(a, a, &Metric::arm), ", ")));
  return comparison;
}

ReportTable comparison_table(const RunComparison& comparison) {
  ReportTable table;
  table.id = "comparison";
  table.title = "B compared with A";
  table.columns = {
      {"arm", "arm"},    {"metric", "metric"},  {"group", "group"},   {"a", "A"},
      {"b", "B"},        {"unit", "unit"},      {"change", "change"}, {"interval", "95 % interval"},
      {"n", "n (A, B)"}, {"verdict", "verdict"}};
  for (const ComparedMetric& row : comparison.metrics) {
    const auto value_cell = [](double value) {
      ReportCell cell = text_cell(std::isfinite(value) ? fmt::format("{:.6g}", value) : "-");
      if (std::isfinite(value)) cell.number = value;
      return cell;
    };
    ReportCell change = text_cell(row.ratio ? change_text(row.ratio->ratio) : "-");
    ReportCell interval = text_cell("none");
    if (row.ratio) change.number = (row.ratio->ratio - 1) * 100;
    if (row.ratio && row.ratio->low) {
      interval.text = change_text(*row.ratio->low) + " to " + change_text(*row.ratio->high);
      change.low = (*row.ratio->low - 1) * 100;
      change.high = (*row.ratio->high - 1) * 100;
    }
    const std::string failed =
        row.fails ? ", FAILS" : (row.second_control ? ", second control" : "");
    table.rows.push_back({text_cell(row.arm), text_cell(row.metric), text_cell(row.group),
                          value_cell(row.a), value_cell(row.b), text_cell(row.unit), change,
                          interval, text_cell(fmt::format("{}, {}", row.n_a, row.n_b)),
                          text_cell(change_verdict_name(row.verdict) + failed,
                                    row.fails ? CellEmphasis::warning : CellEmphasis::normal)});
  }
  return table;
}

}  // namespace kvlab

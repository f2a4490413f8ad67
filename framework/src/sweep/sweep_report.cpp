#include "kvlab/sweep/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "kvlab/runtime/comparison.h"
#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/multiple_tests.h"

namespace kvlab {

namespace {

// More rows than anybody reads; table.csv beside the report has all of them.
constexpr size_t kMostRows = 2000;
// Figures of one axis; the rest is in the table.
constexpr size_t kMostFigures = 8;
constexpr size_t kMostSeries = 12;
// Links to the reports of cases; all of them are below cases/.
constexpr size_t kMostLinks = 200;

std::optional<double> number_of(const std::string& text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || stop != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

constexpr double kSignificant = 0.05;  // adjusted p-values below it are findings

std::string joined(const std::vector<std::string>& parts, const char* between = ", ") {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::string group_text(const Metric& metric) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : metric.group) parts.push_back(key + "=" + value);
  return joined(parts, " ");
}

std::string id_of(std::string text) {
  for (char& c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-';
    if (!plain) c = '_';
  }
  return text;
}

class SweepReport {
 public:
  SweepReport(const StoredRuns& stored, const SweepReportText& text)
      : stored_(stored), text_(text), axes_(sweep_axes(stored.cases)) {
    for (const StoredRun& run : stored.runs) {
      if (run.case_index) runs_[*run.case_index] = &run;
    }
  }

  ReportDocument make() {
    report_.title = text_.title;
    report_.experiment = text_.experiment;
    report_.question = text_.question;
    report_.primary_metric = text_.primary_metric;
    report_.control = text_.control;
    report_.command = text_.command;
    for (const SweepAxis& axis : axes_) {
      report_.varied.push_back(axis.key + ": " + joined(axis.values));
    }
    report_.held_fixed.push_back("everything else: each case's own report has it");
    for (const char* name : {"sweep.json", "plan.jsonl", "table.csv", "results.sqlite"}) {
      report_.raw_files.push_back({name, std::string("../") + name});
    }
    add_cases();
    link_cases();
    add_numbers();
    add_figures();
    add_checks();
    conclude();
    if (!stored_.runs.empty()) report_.environment = stored_.runs.front().environment;
    return std::move(report_);
  }

 private:
  static std::vector<std::string> values_of(const PlannedCase& one,
                                            const std::vector<SweepAxis>& axes) {
    std::map<std::string, std::string> set;
    for (const auto& [key, value] : override_values(one.overrides)) set[key] = value;
    std::vector<std::string> values;
    for (const SweepAxis& axis : axes) {
      const auto found = set.find(axis.key);
      values.push_back(found == set.end() ? "" : found->second);
    }
    return values;
  }

  const StoredRun* run_of(const PlannedCase& one) const {
    const auto found = runs_.find(one.index);
    return found == runs_.end() ? nullptr : found->second;
  }

  std::string status_of(const PlannedCase& one) const {
    if (one.skipped) return "skipped";
    const StoredRun* run = run_of(one);
    return run == nullptr ? "not run" : run->status;
  }

  std::string reason_of(const PlannedCase& one) const {
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

  void link_cases() {
    size_t links = 0;
    for (const PlannedCase& one : stored_.cases) {
      const StoredRun* run = run_of(one);
      if (run == nullptr || run->status != "ok" || ++links > kMostLinks) continue;
      report_.raw_files.push_back(
          {fmt::format("report of case {} ({})", one.index, one.name),
           "../" + run->name + "/report/index.html"});
    }
    if (links == 0) return;
    section_.paragraphs.push_back(
        "Every case has a report of its own: the links are under Raw files. A sweep leaves their "
        "figures undrawn; `kvlab report FOLDER --cases`, with the folder of this sweep, draws them.");
  }

  void add_axis_columns(ReportTable& table) const {
    for (const SweepAxis& axis : axes_) table.columns.push_back({axis.key, axis.key, "", {}});
  }

  void add_axis_cells(std::vector<ReportCell>& row, const PlannedCase& one) const {
    for (const std::string& value : values_of(one, axes_)) {
      ReportCell cell = text_cell(value);
      cell.number = number_of(value);
      row.push_back(std::move(cell));
    }
  }

  void add_cases() {
    ReportTable table;
    table.id = "cases";
    table.title = "Cases";
    table.columns = {{"index", "case", "", {}}, {"status", "status", "", {}}};
    add_axis_columns(table);
    table.columns.push_back({"reason", "reason", "", {}});
    for (const PlannedCase& one : stored_.cases) {
      const std::string status = status_of(one);
      const bool good = status == "ok";
      const std::string reason = good ? "" : reason_of(one);
      std::vector<ReportCell> row = {
          count_cell(one.index),
          text_cell(status, good          ? CellEmphasis::normal
                            : one.skipped ? CellEmphasis::muted
                                          : CellEmphasis::warning)};
      add_axis_cells(row, one);
      row.push_back(text_cell(reason));
      if (table.rows.size() < kMostRows) table.rows.push_back(std::move(row));
      if (good) continue;
      report_.failures.push_back({fmt::format("case {} ({}), {}", one.index, one.name, status),
                                  reason});
    }
    note_length(table, stored_.cases.size());
    section_.title = "All cases";
    section_.tables.push_back(std::move(table));
  }

  void note_length(ReportTable& table, size_t all) const {
    if (all > table.rows.size()) {
      table.note += fmt::format("{}The first {} of {}; table.csv has all.",
                                table.note.empty() ? "" : " ", table.rows.size(), all);
    }
  }

  // Names of metrics in the order in which the cases give them, with unit and direction.
  std::vector<Metric> metric_kinds() const {
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

  void add_numbers() {
    const std::vector<Metric> kinds = metric_kinds();
    if (kinds.empty()) return;
    ReportTable table;
    table.id = "numbers";
    table.title = "What they found";
    table.columns = {{"index", "case", "", {}}};
    add_axis_columns(table);
    table.columns.push_back({"arm", "arm", "", {}});
    table.columns.push_back({"group", "group", "", {}});
    for (const Metric& kind : kinds) {
      // An axis may have a metric's name.
      table.columns.push_back({"metric " + kind.metric, kind.metric, kind.unit, kind.direction});
    }
    size_t all = 0;
    for (const PlannedCase& one : stored_.cases) {
      const StoredRun* run = run_of(one);
      if (run == nullptr || run->status != "ok") continue;
      for (auto& [arm, group, metrics] : rows_of(*run)) {
        if (++all > kMostRows) continue;
        std::vector<ReportCell> row = {count_cell(one.index)};
        add_axis_cells(row, one);
        row.push_back(text_cell(arm));
        row.push_back(text_cell(group));
        for (const Metric& kind : kinds) row.push_back(cell_of(metrics, kind.metric));
        table.rows.push_back(std::move(row));
      }
    }
    if (table.rows.empty()) return;
    table.note = "Every case is a run of its own. Ratios compare arms inside one case; figures of "
                 "different cases were not measured beside each other.";
    note_length(table, all);
    section_.tables.push_back(std::move(table));
  }

  struct Row {
    std::string arm, group;
    std::vector<const Metric*> metrics;
  };

  static std::vector<Row> rows_of(const StoredRun& run) {
    std::vector<Row> rows;
    for (const Metric& metric : run.metrics) {
      const std::string group = group_text(metric);
      auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& known) {
        return known.arm == metric.arm && known.group == group;
      });
      if (row == rows.end()) row = rows.insert(rows.end(), {metric.arm, group, {}});
      row->metrics.push_back(&metric);
    }
    return rows;
  }

  static ReportCell cell_of(const std::vector<const Metric*>& metrics, const std::string& name) {
    for (const Metric* metric : metrics) {
      if (metric->metric != name) continue;
      if (!std::isfinite(metric->value)) return empty_cell();
      ReportCell cell = text_cell(fmt::format("{:.5g}", metric->value));
      cell.number = metric->value;
      if (std::isfinite(metric->ci_low) && std::isfinite(metric->ci_high)) {
        cell.text += fmt::format(" ({:.4g} to {:.4g})", metric->ci_low, metric->ci_high);
        cell.low = metric->ci_low;
        cell.high = metric->ci_high;
      }
      return cell;
    }
    return empty_cell();
  }

  void add_figures() {
    const std::vector<Metric> kinds = metric_kinds();
    for (const SweepAxis& axis : axes_) {
      if (!axis.numeric) continue;
      size_t drawn = 0;
      for (const Metric& kind : kinds) {
        if (kind.direction == BetterDirection::none || drawn == kMostFigures) continue;
        if (add_figure(axis, kind)) ++drawn;
      }
    }
    report_.sections.push_back(std::move(section_));
  }

  // A line for each arm, group and choice of the other axes.
  bool add_figure(const SweepAxis& axis, const Metric& kind) {
    std::vector<LineSeries> series;
    size_t left_out = 0;
    for (const PlannedCase& one : stored_.cases) {
      const StoredRun* run = run_of(one);
      if (run == nullptr || run->status != "ok") continue;
      std::optional<double> x;
      std::vector<std::string> others;
      const std::vector<std::string> values = values_of(one, axes_);
      for (size_t i = 0; i < axes_.size(); ++i) {
        if (axes_[i].key == axis.key) {
          x = number_of(values[i]);
        } else {
          others.push_back(axes_[i].key + "=" + values[i]);
        }
      }
      if (!x) continue;
      for (const Metric& metric : run->metrics) {
        if (metric.metric != kind.metric || !std::isfinite(metric.value)) continue;
        std::vector<std::string> parts = others;
        if (const std::string group = group_text(metric); !group.empty()) parts.push_back(group);
        const std::string name = metric.arm + (parts.empty() ? "" : " " + joined(parts, " "));
        auto line = std::find_if(series.begin(), series.end(),
                                 [&](const LineSeries& known) { return known.name == name; });
        if (line == series.end()) {
          if (series.size() == kMostSeries) {
            ++left_out;
            continue;
          }
          line = series.insert(series.end(), LineSeries{name, {}});
        }
        LinePoint point{*x, metric.value, {}, {}};
        if (std::isfinite(metric.ci_low) && std::isfinite(metric.ci_high)) {
          point.low = metric.ci_low;
          point.high = metric.ci_high;
        }
        line->points.push_back(point);
      }
    }
    const bool several = std::any_of(series.begin(), series.end(), [](const LineSeries& line) {
      return line.points.size() > 1;
    });
    if (!several) return false;
    for (LineSeries& line : series) {
      std::sort(line.points.begin(), line.points.end(),
                [](const LinePoint& a, const LinePoint& b) { return a.x < b.x; });
    }
    std::string caption = "One point per case; bars are 95 % intervals where the case gives one.";
    if (left_out > 0) caption += " Further lines are left out; the table has them.";
    const std::string unit = kind.unit.empty() ? "" : " [" + kind.unit + "]";
    section_.figures.push_back(
        line_chart({id_of(kind.metric + "_by_" + axis.key), kind.metric + " by " + axis.key, caption},
                   {axis.key}, {kind.metric + unit}, series));
    return true;
  }

  void add_checks() {
    size_t passed = 0, all = 0;
    for (const PlannedCase& one : stored_.cases) {
      const StoredRun* run = run_of(one);
      if (run == nullptr) continue;
      for (const ReportCheck& check : run->checks) {
        ++all;
        passed += check.passed ? 1 : 0;
        if (check.passed) continue;
        report_.checks.push_back({check.arm, fmt::format("case {}: {}", one.index, check.check), false,
                                  check.detail});
      }
    }
    if (all > 0) {
      report_.checks.push_back({"all arms", "checks of all cases", passed == all,
                                fmt::format("{} of {} passed", passed, all)});
    }
  }

  struct Judged {
    std::string ratio;  // what was compared, such as "ratio of paged64"
    std::string where;  // the case, with value and interval
    Verdict verdict = Verdict::refused;
    double p = std::numeric_limits<double>::quiet_NaN();
  };

  // The verdicts of all cases together: one family, whose p-values are adjusted once more.
  std::vector<Judged> judge_again() const {
    std::vector<Judged> all;
    for (const PlannedCase& one : stored_.cases) {
      const StoredRun* run = run_of(one);
      if (run == nullptr || run->status != "ok") continue;
      for (const Metric& metric : run->metrics) {
        const std::optional<Verdict> verdict = verdict_of_name(metric.verdict);
        if (!verdict) continue;
        const std::string group = group_text(metric);
        const bool has_interval = std::isfinite(metric.ci_low) && std::isfinite(metric.ci_high);
        const std::string interval =
            has_interval ? fmt::format(" [{:.2f}, {:.2f}]", metric.ci_low, metric.ci_high) : "";
        all.push_back({metric.metric + " of " + metric.arm,
                       fmt::format("{}{} {:.2f}{}", one.name, group.empty() ? "" : " " + group,
                                   metric.value, interval),
                       *verdict, metric.p});
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

  void conclude() {
    struct Found {
      std::vector<std::string> faster, slower;
      size_t open = 0, refused = 0;
    };
    std::vector<std::pair<std::string, Found>> ratios;
    const std::vector<Judged> all = judge_again();
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
    for (const auto& [name, found] : ratios) {
      std::string text = name + ":";
      if (!found.faster.empty()) text += " faster at " + joined(found.faster) + ".";
      if (!found.slower.empty()) text += " slower at " + joined(found.slower) + ".";
      if (found.open > 0) text += fmt::format(" Not distinguishable in {} case(s).", found.open);
      if (found.refused > 0) {
        text += fmt::format(" Refused in {} case(s), whose reports say why.", found.refused);
      }
      report_.conclusions.push_back(text);
    }
    if (!all.empty()) {
      report_.conclusions.push_back(fmt::format(
          "These are the verdicts of the cases' own reports; {} comparisons were made in all cases "
          "together, and a difference counts where p stays below {} after Holm's adjustment for "
          "that number.", all.size(), kSignificant));
    }
    size_t skipped = 0, failed = 0;
    for (const PlannedCase& one : stored_.cases) {
      const std::string status = status_of(one);
      skipped += status == "skipped" ? 1 : 0;
      failed += status != "skipped" && status != "ok" ? 1 : 0;
    }
    if (skipped + failed > 0) {
      report_.conclusions.push_back(
          fmt::format("Of {} cases {} were skipped as incompatible and {} did not end well.",
                      stored_.cases.size(), skipped, failed));
    }
    if (report_.conclusions.empty()) report_.conclusions.push_back("No firm conclusion.");
  }

  const StoredRuns& stored_;
  const SweepReportText& text_;
  std::vector<SweepAxis> axes_;
  std::map<int64_t, const StoredRun*> runs_;
  ReportSection section_;
  ReportDocument report_;
};

}  // namespace

std::vector<SweepAxis> sweep_axes(const std::vector<PlannedCase>& cases) {
  std::vector<SweepAxis> axes;
  for (const PlannedCase& one : cases) {
    for (const auto& [key, value] : override_values(one.overrides)) {
      auto axis = std::find_if(axes.begin(), axes.end(),
                               [&, name = key](const SweepAxis& known) { return known.key == name; });
      if (axis == axes.end()) axis = axes.insert(axes.end(), {key, {}, false});
      if (std::find(axis->values.begin(), axis->values.end(), value) == axis->values.end()) {
        axis->values.push_back(value);
      }
    }
  }
  std::erase_if(axes, [](const SweepAxis& axis) { return axis.values.size() < 2; });
  for (SweepAxis& axis : axes) {
    axis.numeric = std::all_of(axis.values.begin(), axis.values.end(),
                               [](const std::string& value) { return number_of(value).has_value(); });
  }
  return axes;
}

ReportDocument make_sweep_report(const StoredRuns& stored, const SweepReportText& text) {
  return SweepReport(stored, text).make();
}

}  // namespace kvlab

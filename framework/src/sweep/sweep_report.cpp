#include "kvlab/sweep/sweep_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "sweep_cases.h"

namespace kvlab {

namespace {

// More rows than anybody reads; table.csv beside the report has all of them.
constexpr size_t kMostRows = 2000;
// Links to the reports of cases; all of them are below cases/.
constexpr size_t kMostLinks = 200;

class SweepReport {
 public:
  SweepReport(const StoredRuns& stored, const SweepReportText& text)
      : stored_(stored), text_(text), sweep_(stored, text.control) {}

  ReportDocument make() {
    report_.title = text_.title;
    report_.experiment = text_.experiment;
    report_.question = text_.question;
    report_.primary_metric = text_.primary_metric;
    report_.control = text_.control;
    report_.command = text_.command;
    for (const SweepAxis& axis : sweep_.axes()) {
      report_.varied.push_back(axis.key + ": " + joined(axis.values));
    }
    report_.held_fixed = sweep_.fixed_groups();
    report_.held_fixed.push_back("everything else: each case's own report has it");
    for (const char* name : {"sweep.json", "plan.jsonl", "table.csv", "results.sqlite"}) {
      report_.raw_files.push_back({name, std::string("../") + name});
    }
    add_cases();
    link_cases();
    add_numbers();
    section_.figures = sweep_figures(sweep_);
    report_.sections.push_back(std::move(section_));
    add_checks();
    report_.conclusions = sweep_conclusions(sweep_);
    if (!stored_.runs.empty()) report_.environment = stored_.runs.front().environment;
    return std::move(report_);
  }

 private:
  void link_cases() {
    size_t links = 0;
    for (const PlannedCase& one : stored_.cases) {
      const StoredRun* run = sweep_.good_run_of(one);
      if (run == nullptr || ++links > kMostLinks) continue;
      report_.raw_files.push_back(
          {fmt::format("report of case {} ({})", one.index, one.name),
           "../cases/" + run->name + "/report/index.html"});
    }
    if (links == 0) return;
    section_.paragraphs.push_back(
        "Every case has a report of its own: the links are under Raw files. A sweep leaves their "
        "figures undrawn; `kvlab report FOLDER --cases`, with the folder of this sweep, draws "
        "them.");
  }

  void add_axis_columns(ReportTable& table) const {
    for (const SweepAxis& axis : sweep_.axes()) {
      table.columns.push_back({axis.key, axis.key, "", {}});
    }
  }

  void add_axis_cells(std::vector<ReportCell>& row, const PlannedCase& one) const {
    for (const std::string& value : sweep_.values_of(one)) {
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
      const std::string status = sweep_.status_of(one);
      const bool good = status == "ok";
      const std::string reason = good ? "" : sweep_.reason_of(one);
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

  void add_numbers() {
    const std::vector<Metric> kinds = sweep_.metric_kinds();
    if (kinds.empty()) return;
    ReportTable table;
    table.id = "numbers";
    table.title = "What they found";
    table.columns = {{"index", "case", "", {}}};
    add_axis_columns(table);
    table.columns.push_back({"arm", "arm", "", {}});
    const bool with_groups = sweep_.has_groups();
    if (with_groups) table.columns.push_back({"group", "group", "", {}});
    for (const Metric& kind : kinds) {
      // An axis may have a metric's name.
      table.columns.push_back({"metric " + kind.metric, kind.metric, kind.unit, kind.direction});
    }
    size_t all = 0;
    for (const PlannedCase& one : stored_.cases) {
      const StoredRun* run = sweep_.good_run_of(one);
      if (run == nullptr) continue;
      for (auto& [arm, group, metrics] : rows_of(*run)) {
        if (++all > kMostRows) continue;
        std::vector<ReportCell> row = {count_cell(one.index)};
        add_axis_cells(row, one);
        row.push_back(text_cell(arm));
        if (with_groups) row.push_back(text_cell(group));
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

  std::vector<Row> rows_of(const StoredRun& run) const {
    std::vector<Row> rows;
    for (const Metric& metric : run.metrics) {
      const std::string group = sweep_.group_text(metric);
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

  void add_checks() {
    size_t passed = 0, all = 0;
    for (const PlannedCase& one : stored_.cases) {
      const StoredRun* run = sweep_.run_of(one);
      if (run == nullptr) continue;
      for (const ReportCheck& check : run->checks) {
        ++all;
        passed += check.passed ? 1 : 0;
        if (check.passed) continue;
        report_.checks.push_back(
            {check.arm, fmt::format("case {}: {}", one.index, check.check), false, check.detail});
      }
    }
    if (all > 0) {
      report_.checks.push_back({"all arms", "checks of all cases", passed == all,
                                fmt::format("{} of {} passed", passed, all)});
    }
  }

  const StoredRuns& stored_;
  const SweepReportText& text_;
  SweepCases sweep_;
  ReportSection section_;
  ReportDocument report_;
};

}  // namespace

ReportDocument make_sweep_report(const StoredRuns& stored, const SweepReportText& text) {
  return SweepReport(stored, text).make();
}

}  // namespace kvlab

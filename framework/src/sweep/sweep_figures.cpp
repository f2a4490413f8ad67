// How what the cases found changes along the axes of a sweep.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kvlab/runtime/figures.h"
#include "sweep_cases.h"

namespace kvlab {

namespace {

// Figures of one axis; the rest is in the table.
constexpr size_t kMostFigures = 8;
constexpr size_t kMostSeries = 12;

// "arms.paged.cache.block_size" is "block_size" to a reader of a legend.
std::string last_part(const std::string& key) { return key.substr(key.rfind('.') + 1); }

// An axis over several orders of magnitude shows each of its values only on a logarithmic scale.
FigureAxis axis_of(const SweepAxis& axis) {
  constexpr double kWide = 8;
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const std::string& value : axis.values) {
    low = std::min(low, number_of(value).value_or(0));
    high = std::max(high, number_of(value).value_or(0));
  }
  return {axis.key, low > 0 && high >= kWide * low, 2};
}

std::string id_of(std::string text) {
  for (char& c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '_' || c == '-';
    if (!plain) c = '_';
  }
  return text;
}

// A line for each arm, group and choice of the other axes.
std::optional<ReportFigure> figure_of(const SweepCases& sweep, const SweepAxis& axis,
                                      const Metric& kind) {
  std::vector<LineSeries> series;
  size_t left_out = 0;
  for (const PlannedCase& one : sweep.cases()) {
    const StoredRun* run = sweep.good_run_of(one);
    if (run == nullptr) continue;
    std::optional<double> x;
    std::vector<std::string> others;
    const std::vector<std::string> values = sweep.values_of(one);
    for (size_t i = 0; i < sweep.axes().size(); ++i) {
      if (sweep.axes()[i].key == axis.key) {
        x = number_of(values[i]);
      } else {
        others.push_back(last_part(sweep.axes()[i].key) + "=" + values[i]);
      }
    }
    if (!x) continue;
    for (const Metric& metric : run->metrics) {
      if (metric.metric != kind.metric || !std::isfinite(metric.value)) continue;
      std::vector<std::string> parts = others;
      if (const std::string group = sweep.group_text(metric); !group.empty()) {
        parts.push_back(group);
      }
      const std::string name = metric.arm + (parts.empty() ? "" : " " + joined(parts, " "));
      auto line = std::find_if(series.begin(), series.end(),
                               [&](const LineSeries& known) { return known.name == name; });
      if (line == series.end()) {
        if (series.size() == kMostSeries) {
          ++left_out;
          continue;
        }
        // The control once more is no arm: a broken line without marks.
        const bool noise = sweep.is_noise(metric.arm);
        line = series.insert(series.end(), LineSeries{name, {}, noise, !noise});
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
  if (!several) return std::nullopt;
  for (LineSeries& line : series) {
    std::sort(line.points.begin(), line.points.end(),
              [](const LinePoint& a, const LinePoint& b) { return a.x < b.x; });
  }
  std::vector<ReferenceRule> rules;
  if (is_ratio(kind)) rules.push_back({ReferenceRule::Axis::y, 1.0, "control"});
  std::string caption = "One point per case; bars are 95 % intervals where the case gives one.";
  if (left_out > 0) caption += " Further lines are left out; the table has them.";
  const std::string unit = kind.unit.empty() ? "" : " [" + kind.unit + "]";
  return line_chart({id_of(kind.metric + "_by_" + axis.key),
                     kind.metric + " by " + last_part(axis.key), caption},
                    axis_of(axis), {kind.metric + unit, is_ratio(kind)}, series, rules);
}

}  // namespace

std::vector<ReportFigure> sweep_figures(const SweepCases& sweep) {
  std::vector<ReportFigure> figures;
  const std::vector<Metric> kinds = sweep.metric_kinds();
  for (const SweepAxis& axis : sweep.axes()) {
    if (!axis.numeric) continue;
    size_t drawn = 0;
    for (const Metric& kind : kinds) {
      if (kind.direction == BetterDirection::none || drawn == kMostFigures) continue;
      if (auto figure = figure_of(sweep, axis, kind)) {
        figures.push_back(std::move(*figure));
        ++drawn;
      }
    }
  }
  return figures;
}

}  // namespace kvlab

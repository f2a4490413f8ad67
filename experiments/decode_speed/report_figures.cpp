// The figures of a case.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/statistics.h"
#include "report_parts.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

// One slow arm would press all others onto the axis: from this factor on the axis is logarithmic.
constexpr double kWidestLinear = 10;

FigureAxis value_axis(const std::string& title, const std::vector<LineSeries>& series) {
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (const LineSeries& one : series) {
    if (one.dashed) continue;  // the floor is no arm
    for (const LinePoint& point : one.points) {
      least = std::min(least, point.y);
      most = std::max(most, point.y);
    }
  }
  const bool logarithmic = least > 0 && most > kWidestLinear * least;
  return {title, logarithmic, 10, !logarithmic};
}

}  // namespace

void add_figures(ReportSection& section, const Findings& f, const CaseResult& one) {
  std::vector<LineSeries> times, shares;
  LineSeries floor{"bandwidth floor of the control", {}, true};
  for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
    LineSeries time{f.name(arm), {}}, share{f.name(arm), {}};
    for (const DepthResult& at : one.depths) {
      if (!f.shown(at, arm)) continue;
      const Timing found = f.timing(one, at, arm);
      const auto depth = static_cast<double>(at.depth);
      const auto point = [&](const std::vector<double>& values, double scale) {
        return LinePoint{depth, scale * median(values), scale * quantile(values, 0.25),
                         scale * quantile(values, 0.75)};
      };
      time.points.push_back(point(found.ms, 1));
      if (!f.recomputes(at.arms[arm])) share.points.push_back(point(found.share, 100));
      if (arm == f.control() && !f.recomputes(at.arms[arm])) {
        floor.points.push_back(
            {depth, floor_ms(f.step_bytes(one, at.arms[arm]), median(at.bytes_per_second))});
      }
    }
    if (!time.points.empty()) times.push_back(std::move(time));
    if (!share.points.empty()) shares.push_back(std::move(share));
  }
  const FigureAxis depth{"depth [cached tokens]", false, 10, true};
  if (!floor.points.empty()) times.push_back(std::move(floor));
  if (!times.empty()) {
    section.figures.push_back(line_chart(
        {f.file_id("ms_per_step", one), "Time per step by depth, " + one.label(),
         fmt::format("Median over {} blocks; bars are the quartiles. Dashed: what reading the "
                     "control's bytes takes at the bandwidth measured beside it.",
                     f.config().measure.repeats)},
        depth, value_axis("ms per step", times), times));
  }
  if (!shares.empty()) {
    section.figures.push_back(
        line_chart({f.file_id("floor_share", one), "Share of the bandwidth floor, " + one.label(),
                    "100 %: the step takes as long as reading its weights, K and V. Bars are the "
                    "quartiles over blocks. An arm that recomputes has no floor."},
                   depth, value_axis("share of the floor [%]", shares), shares));
  }
}

}  // namespace kvlab::experiments::decode_speed_kind

#include "kvlab/runtime/prediction_figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "figure_style.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/csv_text.h"

namespace kvlab {
namespace {

using figure_style::Json;

constexpr int kSide = 400;
// Free space beyond the outermost points, as a factor.
constexpr double kMargin = 1.4;

// Predicted over measured, as a difference in per cent; nothing where the measured value is zero.
std::optional<double> percent_off(const PredictedPoint& point) {
  if (point.measured == point.predicted) return 0;
  if (point.measured == 0 || !std::isfinite(point.predicted / point.measured)) return {};
  return 100 * (point.predicted / point.measured - 1);
}

// "All 12 predictions are right." or what the worst one is off.
std::string accuracy(const std::vector<PredictedPoint>& points) {
  const PredictedPoint* worst = nullptr;
  std::size_t right = 0;
  for (const PredictedPoint& point : points) {
    const auto off = percent_off(point);
    if (off && *off == 0) {
      ++right;
    } else if (worst == nullptr || !off ||
               (percent_off(*worst) && std::abs(*off) > std::abs(*percent_off(*worst)))) {
      worst = &point;
    }
  }
  if (worst == nullptr) {
    return points.size() == 1 ? "The prediction is right to the last digit."
                              : fmt::format("All {} predictions are right to the last digit.",
                                            points.size());
  }
  const auto off = percent_off(*worst);
  return fmt::format("{} of {} predictions are right; the worst, {} {}, is {}.", right,
                     points.size(), worst->series, worst->what,
                     off ? fmt::format("off by {:+.2g} %", *off)
                         : std::string("one of something that is not there"));
}

Json square_channel(const FigureAxis& axis, const char* field, double low, double high) {
  Json channel = figure_style::channel(axis, field, figure_style::round_ticks(axis, {low, high}));
  channel["scale"]["domain"] = Json{low, high};
  return channel;
}

}  // namespace

ReportFigure prediction_chart(const FigureText& text, const std::string& quantity,
                              const std::vector<PredictedPoint>& points) {
  figure_style::check_text(text);
  KVLAB_CHECK(!points.empty(), "[figures.prediction_chart] figure '", text.id,
              "' has no points. Leave it out where nothing was measured");
  const FigureAxis x{"predicted " + quantity, true}, y{"measured " + quantity, true};
  std::string csv = csv_line({"series", "what", csv_text_field(x.title), csv_text_field(y.title)});
  Json values = Json::array();
  std::vector<std::string> names;
  double low = std::numeric_limits<double>::infinity(), high = 0;
  int omitted = 0;
  for (const PredictedPoint& point : points) {
    csv += csv_line({csv_text_field(point.series), csv_text_field(point.what),
                     figure_style::csv_value(point.predicted),
                     figure_style::csv_value(point.measured)});
    if (!figure_style::drawable(x, point.predicted) || !figure_style::drawable(y, point.measured)) {
      ++omitted;
      continue;
    }
    if (std::find(names.begin(), names.end(), point.series) == names.end())
      names.push_back(point.series);
    low = std::min({low, point.predicted, point.measured});
    high = std::max({high, point.predicted, point.measured});
    values.push_back(Json{{"series", point.series}, {"x", point.predicted}, {"y", point.measured}});
  }
  if (names.empty()) low = high = 1;  // an empty plot, whose caption says why
  low /= kMargin;
  high *= kMargin;
  const Json position{{"x", square_channel(x, "x", low, high)},
                      {"y", square_channel(y, "y", low, high)}};
  const Json line{{{"x", low}, {"y", low}}, {{"x", high}, {"y", high}}};
  constexpr std::array<const char*, 7> kShapes{"circle", "square",        "triangle-up", "diamond",
                                               "cross",  "triangle-down", "triangle-right"};
  Json shapes = Json::array();
  for (std::size_t i = 0; i < names.size(); ++i) shapes.push_back(kShapes[i % kShapes.size()]);
  const auto by_series = [&](const Json& range) {
    return Json{{"field", "series"},
                {"type", "nominal"},
                {"sort", nullptr},
                {"scale", Json{{"domain", names}, {"range", range}}}};
  };
  Json encoding = position;
  encoding["color"] = by_series(figure_style::palette(names.size()));
  encoding["shape"] = by_series(shapes);
  Json layers = Json::array();
  layers.push_back(Json{{"data", Json{{"values", line}}},
                        {"mark", Json{{"type", "line"}, {"strokeDash", {6, 4}},
                                      {"strokeWidth", 1.2}, {"color", figure_style::kGrey}}},
                        {"encoding", position}});
  // Hollow: arms that need the same bytes lie on each other, and all of them stay visible.
  layers.push_back(Json{{"data", Json{{"values", values}}},
                        {"mark", Json{{"type", "point"}, {"filled", false}, {"size", 110},
                                      {"strokeWidth", 2}, {"opacity", 1}}},
                        {"encoding", encoding}});
  Json specification = figure_style::frame(text);
  figure_style::fit_legend(specification, names);
  specification["width"] = kSide;
  specification["height"] = kSide;
  specification["layer"] = layers;
  std::string caption = text.caption + (text.caption.empty() ? "" : " ") + accuracy(points);
  return {text.id, text.title, figure_style::caption_with_omissions(caption, omitted),
          figure_style::specification_text(specification), csv};
}

}  // namespace kvlab

// Scatter plots with a Pareto front and labels that keep out of each other's way.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "figure_style.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/csv_text.h"
#include "kvlab/runtime/figures.h"

namespace kvlab {
namespace {

using figure_style::Json;

struct Box {
  double left, top, right, bottom;
};

double overlap(const Box& a, const Box& b) {
  const double width = std::min(a.right, b.right) - std::max(a.left, b.left);
  const double height = std::min(a.bottom, b.bottom) - std::max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

// Where a label stands beside its point.
struct Placement {
  const char* align;
  const char* baseline;
  int dx, dy;
};
// The later ones are for crowds: the corners, and further above and below.
constexpr std::array<Placement, 10> kPlacements{{{"left", "middle", 9, 0},
                                                {"right", "middle", -9, 0},
                                                {"center", "bottom", 0, -9},
                                                {"center", "top", 0, 9},
                                                {"left", "bottom", 6, -6},
                                                {"left", "top", 6, 6},
                                                {"right", "bottom", -6, -6},
                                                {"right", "top", -6, 6},
                                                {"center", "bottom", 0, -24},
                                                 {"center", "top", 0, 24}}};

Box label_box(const Placement& placement, double x, double y, double width) {
  constexpr double kLine = 16;
  const std::string_view align = placement.align, baseline = placement.baseline;
  const double left = x + placement.dx - (align == "left"    ? 0
                                          : align == "right" ? width
                                                             : width / 2);
  const double top = y + placement.dy - (baseline == "top"      ? 0
                                         : baseline == "bottom" ? kLine
                                                                : kLine / 2);
  return {left, top, left + width, top + kLine};
}

// Points on one place share a label: "none, paged". Returns the label of each, empty for all but
// the first of a place.
std::vector<std::string> shared_labels(const std::vector<ScatterPoint>& points) {
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < points.size(); ++i) {
    labels.push_back(points[i].label);
    for (std::size_t first = 0; first < i; ++first) {
      if (points[first].x != points[i].x || points[first].y != points[i].y) continue;
      if (!points[i].label.empty()) {
        labels[first] += (labels[first].empty() ? "" : ", ") + points[i].label;
      }
      labels[i].clear();
      break;
    }
  }
  return labels;
}

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // Place of a value from 0 to 1.
  double share(double value) const { return high > low ? (value - low) / (high - low) : 0.5; }
};

// Chooses for each label, in order, the side with the least overlap with points, earlier labels and
// the edge of the plot. Text widths are estimated: exact ones are known only to the renderer.
std::vector<std::size_t> place_labels(const FigureAxis& x, const FigureAxis& y,
                                      const std::vector<ScatterPoint>& points,
                                      const std::vector<std::string>& labels) {
  const auto scaled = [](const FigureAxis& axis, double value) {
    return axis.logarithmic ? std::log(value) : value;
  };
  Extent across, up;
  for (const auto& point : points) {
    across.include(scaled(x, point.x));
    up.include(scaled(y, point.y));
  }
  struct Place {
    double x, y;
  };
  std::vector<Place> places;
  std::vector<Box> taken;
  for (const auto& point : points) {
    const Place place{across.share(scaled(x, point.x)) * figure_style::kWidth,
                      (1 - up.share(scaled(y, point.y))) * figure_style::kHeight};
    places.push_back(place);
    taken.push_back({place.x - 6, place.y - 6, place.x + 6, place.y + 6});
  }
  constexpr double kCharacterWidth = 6.8;
  constexpr double kOutsidePenalty = 20;
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const double width =
        kCharacterWidth * static_cast<double>(std::min<std::size_t>(labels[i].size(), 38));
    std::size_t best = 0;
    if (labels[i].empty()) {
      chosen.push_back(best);
      continue;
    }
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t placement = 0; placement < kPlacements.size(); ++placement) {
      const Box box = label_box(kPlacements[placement], places[i].x, places[i].y, width);
      double cost = 0;
      for (const auto& other : taken) cost += overlap(box, other);
      cost += kOutsidePenalty * (std::max(0.0, -box.left) +
                                 std::max(0.0, box.right - figure_style::kWidth) +
                                 std::max(0.0, -box.top) +
                                 std::max(0.0, box.bottom - figure_style::kHeight));
      if (cost < least) {
        least = cost;
        best = placement;
      }
    }
    chosen.push_back(best);
    taken.push_back(label_box(kPlacements[best], places[i].x, places[i].y, width));
  }
  return chosen;
}

// Error bars along one axis, for the points that have both ends on it.
void add_intervals(Json& layers, const FigureAxis& axis, const std::string& name,
                   const Json& position, const std::vector<ScatterPoint>& points) {
  Json values = Json::array();
  for (const auto& point : points) {
    const auto& low = name == "x" ? point.x_low : point.y_low;
    const auto& high = name == "x" ? point.x_high : point.y_high;
    if (!low || !high || !figure_style::drawable(axis, *low) ||
        !figure_style::drawable(axis, *high))
      continue;
    values.push_back(Json{{"x", point.x}, {"y", point.y}, {"low", *low}, {"high", *high}});
  }
  if (values.empty()) return;
  Json encoding = position;
  encoding[name]["field"] = "low";
  encoding[name + "2"] = Json{{"field", "high"}};
  layers.push_back(Json{{"data", Json{{"values", values}}},
                        {"mark", Json{{"type", "errorbar"}, {"ticks", true}, {"thickness", 1.4},
                                      {"color", figure_style::kGrey}}},
                        {"encoding", encoding}});
}

bool at_least_as_good(double left, double right, BetterDirection direction) {
  return direction == BetterDirection::higher ? left >= right : left <= right;
}

}  // namespace

void mark_dominated(std::vector<ScatterPoint>& points, BetterDirection x, BetterDirection y) {
  KVLAB_CHECK(x != BetterDirection::none && y != BetterDirection::none,
              "[figures.mark_dominated] both axes need a better direction");
  const auto finite = [](const ScatterPoint& point) {
    return std::isfinite(point.x) && std::isfinite(point.y);
  };
  for (auto& point : points) {
    point.dominated = !finite(point);
    for (const auto& other : points) {
      if (point.dominated) break;
      const bool different = other.x != point.x || other.y != point.y;
      point.dominated = finite(other) && different && at_least_as_good(other.x, point.x, x) &&
                        at_least_as_good(other.y, point.y, y);
    }
  }
}

ReportFigure scatter_chart(const FigureText& text, const FigureAxis& x, const FigureAxis& y,
                           const std::vector<ScatterPoint>& points) {
  figure_style::check_text(text);
  KVLAB_CHECK(!points.empty(), "[figures.scatter_chart] figure '", text.id, "' has no points");
  std::vector<ScatterPoint> drawn;
  const bool with_intervals = std::any_of(points.begin(), points.end(), [](const auto& point) {
    return point.x_low || point.x_high || point.y_low || point.y_high;
  });
  std::vector<std::string> fields{"label", csv_text_field(x.title), csv_text_field(y.title),
                                  "dominated"};
  if (with_intervals) fields.insert(fields.end(), {"x_low", "x_high", "y_low", "y_high"});
  std::string csv = csv_line(fields);
  for (const auto& point : points) {
    fields = {csv_text_field(point.label), figure_style::csv_value(point.x),
              figure_style::csv_value(point.y), point.dominated ? "yes" : "no"};
    if (with_intervals) {
      for (const auto& end : {point.x_low, point.x_high, point.y_low, point.y_high})
        fields.push_back(figure_style::csv_value(end));
    }
    csv += csv_line(fields);
    if (figure_style::drawable(x, point.x) && figure_style::drawable(y, point.y))
      drawn.push_back(point);
  }
  const std::vector<std::string> labels = shared_labels(drawn);
  const auto placements = place_labels(x, y, drawn, labels);
  Json values = Json::array();
  for (std::size_t i = 0; i < drawn.size(); ++i)
    values.push_back(Json{{"x", drawn[i].x}, {"y", drawn[i].y}, {"label", labels[i]},
                          {"dominated", drawn[i].dominated}, {"placement", placements[i]}});
  Json position{{"x", figure_style::channel(x, "x", {})},
                {"y", figure_style::channel(y, "y", {})}};
  figure_style::keep_points_off_the_edge(x, position["x"]);
  figure_style::keep_points_off_the_edge(y, position["y"]);
  const std::string front = figure_style::palette(1)[0];

  Json layers = Json::array();
  const bool any_dominated = std::any_of(drawn.begin(), drawn.end(),
                                         [](const auto& point) { return point.dominated; });
  if (any_dominated) {
    layers.push_back(
        Json{{"transform", Json::array({Json{{"filter", "!datum.dominated"}}})},
             {"mark", Json{{"type", "line"}, {"color", front}, {"strokeWidth", 1.2},
                           {"opacity", 0.6}}},
             {"encoding", position}});
  }
  Json encoding = position;
  encoding["color"] = Json{{"condition", Json{{"test", "datum.dominated"},
                                              {"value", figure_style::kGrey}}},
                           {"value", front}};
  encoding["shape"] = Json{{"condition", Json{{"test", "datum.dominated"}, {"value", "cross"}}},
                           {"value", "circle"}};
  add_intervals(layers, x, "x", position, drawn);
  add_intervals(layers, y, "y", position, drawn);
  layers.push_back(Json{{"mark", Json{{"type", "point"}, {"filled", true}, {"size", 80},
                                      {"opacity", 1}}},
                        {"encoding", encoding}});
  for (std::size_t i = 0; i < kPlacements.size(); ++i) {
    if (std::find(placements.begin(), placements.end(), i) == placements.end()) continue;
    const auto& placement = kPlacements[i];
    Json label_encoding = position;
    label_encoding["text"] = Json{{"field", "label"}, {"type", "nominal"}};
    layers.push_back(
        Json{{"transform",
              Json::array({Json{{"filter", "datum.placement === " + std::to_string(i)}}})},
             {"mark", Json{{"type", "text"}, {"align", placement.align},
                           {"baseline", placement.baseline}, {"dx", placement.dx},
                           {"dy", placement.dy}, {"fontSize", 12}, {"limit", 260},
                           {"color", figure_style::kGrey}}},
             {"encoding", label_encoding}});
  }
  Json specification = figure_style::frame(text);
  specification["width"] = figure_style::kWidth;
  specification["height"] = figure_style::kHeight;
  specification["data"] = Json{{"values", values}};
  specification["layer"] = layers;
  return {text.id, text.title,
          figure_style::caption_with_omissions(
              text.caption, static_cast<int>(points.size() - drawn.size())),
          figure_style::specification_text(specification), csv};
}

}  // namespace kvlab

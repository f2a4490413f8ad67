#include "kvlab/runtime/figures.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "figure_style.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/csv_text.h"

namespace kvlab {
namespace {

using figure_style::Json;

ReportFigure finish(const FigureText& text, const Json& specification, std::string csv,
                    int omitted) {
  return {text.id, text.title, figure_style::caption_with_omissions(text.caption, omitted),
          figure_style::specification_text(specification), std::move(csv)};
}

template <typename Items>
void add_once(std::vector<std::string>& names, const Items& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

// Where error bars can be drawn, both ends are on the axis.
bool has_interval(const FigureAxis& axis, const std::optional<double>& low,
                  const std::optional<double>& high) {
  return low && high && figure_style::drawable(axis, *low) && figure_style::drawable(axis, *high);
}

// A rule is a line and its label; both stand on the constant alone.
void add_rules(Json& layers, const FigureAxis& x, const FigureAxis& y,
               const std::vector<ReferenceRule>& rules, const std::vector<double>& all_x) {
  for (const auto& rule : rules) {
    const bool vertical = rule.axis == ReferenceRule::Axis::x;
    if (!figure_style::drawable(vertical ? x : y, rule.value)) continue;
    const auto place = [&](double value) { return x.logarithmic ? std::log(value) : value; };
    // The label goes to the side with more room.
    bool to_the_left = false;
    if (vertical && !all_x.empty()) {
      const auto [low, high] = std::minmax_element(all_x.begin(), all_x.end());
      to_the_left = place(rule.value) > 0.5 * (place(*low) + place(*high));
    }
    const char* name = vertical ? "x" : "y";
    const Json position = Json{{"datum", rule.value}, {"type", "quantitative"}};
    layers.push_back(Json{{"data", Json{{"values", Json::array({Json::object()})}}},
                          {"mark", Json{{"type", "rule"},
                                        {"color", figure_style::kGrey},
                                        {"strokeWidth", 1.5},
                                        {"strokeDash", {5, 4}}}},
                          {"encoding", Json{{name, position}}}});
    if (rule.label.empty()) continue;
    Json encoding{{name, position}, {"text", Json{{"value", rule.label}}}};
    encoding[vertical ? "y" : "x"] = Json{{"value", vertical ? 10 : figure_style::kWidth - 4}};
    layers.push_back(
        Json{{"data", Json{{"values", Json::array({Json::object()})}}},
             {"mark", Json{{"type", "text"},
                           {"color", figure_style::kGrey},
                           {"fontSize", 12},
                           {"align", vertical && !to_the_left ? "left" : "right"},
                           {"baseline", vertical ? "middle" : "bottom"},
                           {"dx", vertical ? (to_the_left ? -6 : 6) : 0},
                           {"dy", vertical ? 0 : -4}}},
             {"encoding", encoding}});
  }
}

}  // namespace

ReportFigure line_chart(const FigureText& text, const FigureAxis& x, const FigureAxis& y,
                        const std::vector<LineSeries>& series,
                        const std::vector<ReferenceRule>& rules) {
  figure_style::check_text(text);
  KVLAB_CHECK(!series.empty(), "[figures.line_chart] figure '", text.id, "' has no series");
  int omitted = 0;
  Json values = Json::array();
  Json intervals = Json::array();
  std::vector<std::string> names;
  std::vector<double> all_x;
  std::vector<double> all_y;
  Json dashes = Json::array();
  std::string csv =
      csv_line({"series", csv_text_field(x.title), csv_text_field(y.title), "low", "high"});
  for (const auto& line : series) {
    add_once(names, line.name);
    KVLAB_CHECK_EQ(names.size(), static_cast<std::size_t>(&line - series.data()) + 1,
                   "[figures.line_chart] series names are unique, '", line.name, "' is not");
    dashes.push_back(line.dashed ? Json{6, 4} : Json{1, 0});
    for (const auto& point : line.points) {
      csv += csv_line({csv_text_field(line.name), figure_style::csv_value(point.x),
                       figure_style::csv_value(point.y), figure_style::csv_value(point.low),
                       figure_style::csv_value(point.high)});
      if (!figure_style::drawable(x, point.x) || !figure_style::drawable(y, point.y)) {
        ++omitted;
        continue;
      }
      all_x.push_back(point.x);
      all_y.push_back(point.y);
      Json value{{"series", line.name}, {"x", point.x}, {"y", point.y}, {"marker", line.markers}};
      values.push_back(value);
      if (has_interval(y, point.low, point.high)) {
        value["low"] = *point.low;
        value["high"] = *point.high;
        intervals.push_back(value);
      }
    }
  }
  const Json order(names);
  Json x_channel = figure_style::channel(x, "x", figure_style::distinct_ticks(x, all_x));
  Json y_channel = figure_style::channel(y, "y", figure_style::round_ticks(y, all_y));
  figure_style::keep_points_off_the_edge(x, x_channel);
  figure_style::keep_points_off_the_edge(y, y_channel);
  Json low_channel = y_channel;
  low_channel["field"] = "low";
  const Json colour{{"field", "series"},
                    {"type", "nominal"},
                    {"sort", nullptr},
                    {"scale", Json{{"domain", order},
                                   {"range", figure_style::palette(names.size())}}}};
  const Json dash{{"field", "series"},
                  {"type", "nominal"},
                  {"scale", Json{{"domain", order}, {"range", dashes}}}};
  constexpr std::array<const char*, 7> kShapes{"circle", "square",        "triangle-up", "diamond",
                                               "cross",  "triangle-down", "triangle-right"};
  Json shapes = Json::array();
  for (std::size_t i = 0; i < names.size(); ++i)
    shapes.push_back(series[i].markers ? kShapes[i % kShapes.size()] : "stroke");
  const Json shape{{"field", "series"},
                   {"type", "nominal"},
                   {"scale", Json{{"domain", order}, {"range", shapes}}}};

  Json layers = Json::array();
  layers.push_back(Json{{"data", Json{{"values", values}}},
                        {"mark", Json{{"type", "line"}, {"strokeWidth", 2.2}}},
                        {"encoding", Json{{"x", x_channel},
                                          {"y", y_channel},
                                          {"color", colour},
                                          {"strokeDash", dash}}}});
  if (!intervals.empty()) {
    layers.push_back(Json{{"data", Json{{"values", intervals}}},
                          {"mark", Json{{"type", "errorbar"}, {"ticks", true}, {"thickness", 1.4}}},
                          {"encoding", Json{{"x", x_channel},
                                            {"y", low_channel},
                                            {"y2", Json{{"field", "high"}}},
                                            {"color", colour}}}});
  }
  layers.push_back(Json{{"data", Json{{"values", values}}},
                        {"transform", Json::array({Json{{"filter", "datum.marker"}}})},
                        {"mark", Json{{"type", "point"}, {"filled", true}, {"size", 60},
                                      {"opacity", 1}}},
                        {"encoding", Json{{"x", x_channel},
                                          {"y", y_channel},
                                          {"color", colour},
                                          {"shape", shape}}}});
  add_rules(layers, x, y, rules, all_x);

  Json specification = figure_style::frame(text);
  figure_style::fit_legend(specification, names);
  specification["width"] = figure_style::kWidth;
  specification["height"] = figure_style::kHeight;
  specification["layer"] = layers;
  return finish(text, specification, csv, omitted);
}

ReportFigure bar_chart(const FigureText& text, const FigureAxis& value,
                       const std::vector<Bar>& bars, BarLayout layout) {
  figure_style::check_text(text);
  KVLAB_CHECK(!bars.empty(), "[figures.bar_chart] figure '", text.id, "' has no bars");
  KVLAB_CHECK(!value.logarithmic, "[figures.bar_chart] bars start at zero, which a logarithmic "
              "axis does not have: use line_chart or scatter_chart for figure '", text.id, "'");
  int omitted = 0;
  Json values = Json::array();
  Json intervals = Json::array();
  std::vector<std::string> names;
  std::vector<std::string> categories;
  std::vector<double> totals;
  std::string csv = csv_line({"category", "series", csv_text_field(value.title), "low", "high"});
  for (const auto& bar : bars) {
    csv += csv_line({csv_text_field(bar.category), csv_text_field(bar.series),
                     figure_style::csv_value(bar.value), figure_style::csv_value(bar.low),
                     figure_style::csv_value(bar.high)});
    add_once(names, bar.series);
    add_once(categories, bar.category);
    totals.resize(categories.size(), 0.0);
    if (!std::isfinite(bar.value)) {
      ++omitted;
      continue;
    }
    const auto place = std::find(categories.begin(), categories.end(), bar.category);
    totals[static_cast<std::size_t>(place - categories.begin())] += bar.value;
    const auto rank = std::find(names.begin(), names.end(), bar.series) - names.begin();
    Json item{{"category", bar.category}, {"series", bar.series}, {"value", bar.value},
              {"rank", rank},             {"end", bar.value},
              {"label", figure_style::short_label(bar.value)}};
    if (layout == BarLayout::grouped && has_interval(value, bar.low, bar.high)) {
      item["low"] = *bar.low;
      item["high"] = *bar.high;
      item["end"] = std::max(bar.value, *bar.high);
      intervals.push_back(item);
    }
    values.push_back(item);
  }
  const bool several = names.size() > 1;
  const bool stacked = several && layout == BarLayout::stacked;
  const Json y{{"field", "category"},
               {"type", "nominal"},
               {"sort", Json(categories)},
               {"axis", Json{{"title", nullptr}, {"grid", false}, {"domain", false},
                             {"ticks", false}, {"labelPadding", 8}, {"labelFontSize", 13}}}};
  const Json offset{{"field", "series"}, {"type", "nominal"}, {"sort", Json(names)}};
  FigureAxis axis = value;
  axis.from_zero = true;
  Json bar_encoding{{"y", y}, {"x", figure_style::channel(axis, "value", {})}};
  if (several) {
    bar_encoding["color"] =
        Json{{"field", "series"},
             {"type", "nominal"},
             {"sort", nullptr},
             {"scale", Json{{"domain", names}, {"range", figure_style::palette(names.size())}}}};
  }
  if (stacked) {
    bar_encoding["order"] = Json{{"field", "rank"}, {"type", "quantitative"}};
  } else {
    bar_encoding["x"]["stack"] = nullptr;
    if (several) bar_encoding["yOffset"] = offset;
  }
  Json bar_mark{{"type", "bar"}, {"cornerRadiusEnd", stacked ? 0 : 2}};
  if (!several) bar_mark["color"] = figure_style::palette(1)[0];
  Json layers = Json::array();
  layers.push_back(Json{{"data", Json{{"values", values}}},
                        {"mark", bar_mark},
                        {"encoding", bar_encoding}});
  if (!intervals.empty()) {
    Json encoding{{"y", y},
                  {"x", figure_style::channel(axis, "low", {})},
                  {"x2", Json{{"field", "high"}}}};
    if (several) encoding["yOffset"] = offset;
    layers.push_back(Json{{"data", Json{{"values", intervals}}},
                          {"mark", Json{{"type", "errorbar"}, {"ticks", true},
                                        {"color", figure_style::kGrey}, {"thickness", 1.6}}},
                          {"encoding", encoding}});
  }
  Json labels = values;
  if (stacked) {
    labels = Json::array();
    for (std::size_t i = 0; i < categories.size(); ++i)
      labels.push_back(Json{{"category", categories[i]}, {"end", totals[i]},
                            {"label", figure_style::short_label(totals[i])}});
  }
  Json label_encoding{{"y", y},
                      {"x", figure_style::channel(axis, "end", {})},
                      {"text", Json{{"field", "label"}, {"type", "nominal"}}}};
  if (several && !stacked) label_encoding["yOffset"] = offset;
  layers.push_back(Json{{"data", Json{{"values", labels}}},
                        {"mark", Json{{"type", "text"}, {"align", "left"}, {"dx", 6},
                                      {"fontSize", 11.5}, {"color", figure_style::kGrey}}},
                        {"encoding", label_encoding}});
  Json specification = figure_style::frame(text);
  specification["width"] = figure_style::kWidth - 80;
  specification["height"] = Json{{"step", several && !stacked ? 15 : 30}};
  specification["layer"] = layers;
  return finish(text, specification, csv, omitted);
}

ReportFigure grid_chart(const FigureText& text, const std::string& row_title,
                        const std::string& column_title, const std::vector<GridPanel>& panels) {
  figure_style::check_text(text);
  KVLAB_CHECK(!panels.empty(), "[figures.grid_chart] figure '", text.id, "' has no panels");
  std::vector<std::string> categories;
  int64_t first = std::numeric_limits<int64_t>::max();
  int64_t last = std::numeric_limits<int64_t>::min();
  for (const auto& panel : panels) {
    for (const auto& cell : panel.cells) {
      add_once(categories, cell.category);
      first = std::min(first, cell.column);
      last = std::max(last, cell.column);
    }
  }
  KVLAB_CHECK(!categories.empty(), "[figures.grid_chart] figure '", text.id, "' has no cells");
  // Light colours carry dark labels; adjacent ones differ in lightness as well as in hue.
  constexpr std::array<const char*, 6> kFills{"#e69f00", "#56b4e9", "#b8b8b8",
                                              "#009e73", "#cc79a7", "#f0e442"};
  Json fills = Json::array();
  for (std::size_t i = 0; i < categories.size(); ++i) fills.push_back(kFills[i % kFills.size()]);
  const auto columns = static_cast<double>(last - first) + 1;
  const double step = std::clamp(700.0 / columns, 6.0, 26.0);
  constexpr double kSmallestLabelledStep = 15;

  std::string csv = csv_line({"panel", csv_text_field(row_title), csv_text_field(column_title),
                              "category", "label"});
  Json plots = Json::array();
  for (const auto& panel : panels) {
    Json values = Json::array();
    for (const auto& cell : panel.cells) {
      csv += csv_line({csv_text_field(panel.name), std::to_string(cell.row),
                       std::to_string(cell.column), csv_text_field(cell.category),
                       csv_text_field(cell.label)});
      values.push_back(Json{{"row", cell.row}, {"column", cell.column},
                            {"category", cell.category}, {"label", cell.label}});
    }
    const bool lowest = &panel == &panels.back();
    const Json position{
        {"x", Json{{"field", "column"},
                   {"type", "ordinal"},
                   {"axis", Json{{"title", lowest ? Json(column_title) : Json(nullptr)},
                                 {"labelAngle", 0}, {"labelOverlap", true},
                                 {"domain", false}, {"ticks", false}}}}},
        {"y", Json{{"field", "row"},
                   {"type", "ordinal"},
                   {"axis", Json{{"title", row_title}, {"labelOverlap", true},
                                 {"domain", false}, {"ticks", false}}}}}};
    Json cell_encoding = position;
    cell_encoding["color"] =
        Json{{"field", "category"},
             {"type", "nominal"},
             {"sort", nullptr},
             {"scale", Json{{"domain", categories}, {"range", fills}}}};
    Json layers = Json::array();
    layers.push_back(Json{{"mark", Json{{"type", "rect"}, {"cornerRadius", step >= 12 ? 3 : 1},
                                        {"xOffset", 0.5}, {"x2Offset", -0.5},
                                        {"yOffset", 0.5}, {"y2Offset", -0.5}}},
                          {"encoding", cell_encoding}});
    if (step >= kSmallestLabelledStep) {
      Json label_encoding = position;
      label_encoding["text"] = Json{{"field", "label"}, {"type", "nominal"}};
      layers.push_back(Json{{"mark", Json{{"type", "text"}, {"fontSize", 10.5},
                                          {"color", "#1c1c1c"}}},
                            {"encoding", label_encoding}});
    }
    Json plot{{"data", Json{{"values", values}}},
              {"width", Json{{"step", step}}},
              {"height", Json{{"step", step}}},
              {"layer", layers}};
    if (!panel.name.empty()) plot["title"] = panel.name;
    plots.push_back(plot);
  }
  Json specification = figure_style::frame(text);
  specification["vconcat"] = plots;
  specification["spacing"] = 14;
  return finish(text, specification, csv, 0);
}

}  // namespace kvlab

#include "figure_style.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "kvlab/core/error.h"
#include "kvlab/runtime/visible_text.h"

namespace kvlab::figure_style {
namespace {

constexpr std::array<const char*, 7> kColours{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                              "#56b4e9", "#e69f00", "#8a8a8a"};

// Labels of an axis stand at least so far apart, as a share of it: room for six characters.
constexpr double kClosestLabels = 0.055;

Json axis_json(const FigureAxis& axis, const std::vector<double>& ticks) {
  Json json{{"title", axis.title}, {"labelOverlap", true}};
  if (axis.logarithmic) {
    json["format"] = ",";
    if (!ticks.empty()) json["values"] = ticks;
  } else {
    json["tickCount"] = 6;
  }
  return json;
}

void make_visible(Json& json) {
  if (json.is_string()) {
    json = visible_text(json.get_ref<const std::string&>());
  } else if (json.is_structured()) {
    for (auto& item : json) make_visible(item);
  }
}

Json scale_json(const FigureAxis& axis) {
  if (axis.logarithmic) return Json{{"type", "log"}, {"base", axis.base}, {"nice", false}};
  return Json{{"type", "linear"}, {"zero", axis.from_zero}};
}

}  // namespace

Json palette(std::size_t count) {
  Json colours = Json::array();
  for (std::size_t i = 0; i < count; ++i) colours.push_back(kColours[i % kColours.size()]);
  return colours;
}

Json frame(const FigureText& text) {
  const Json axis{{"labelColor", kGrey},      {"titleColor", kGrey},
                  {"domainColor", kGrey},     {"tickColor", kGrey},
                  {"gridColor", kGrey},       {"gridOpacity", 0.22},
                  {"labelFontSize", 12},      {"titleFontSize", 12.5},
                  {"titleFontWeight", "normal"}, {"titlePadding", 8},
                  {"labelLimit", 260}};
  const Json legend{{"labelColor", kGrey},   {"titleColor", kGrey}, {"labelFontSize", 12.5},
                    {"labelLimit", 300},     {"orient", "top"},     {"columns", 4},
                    {"symbolStrokeWidth", 2}, {"symbolOpacity", 1},
                    {"columnPadding", 26},
                    {"title", nullptr}};
  const Json title{{"color", kGrey}, {"fontSize", 13}, {"anchor", "start"}};
  return Json{{"$schema", "https://vega.github.io/schema/vega-lite/v5.json"},
              {"description", text.title},
              {"background", "transparent"},
              {"padding", 8},
              {"config", Json{{"font", "Helvetica, Arial, sans-serif"},
                              {"view", Json{{"stroke", nullptr}}},
                              {"axis", axis},
                              {"legend", legend},
                              {"title", title}}}};
}

void fit_legend(Json& specification, const std::vector<std::string>& names) {
  constexpr int kCharacter = 7, kSymbol = 50, kMostColumns = 4;
  std::size_t longest = 1;
  for (const std::string& name : names) longest = std::max(longest, name.size());
  const int width = kSymbol + kCharacter * static_cast<int>(std::min<std::size_t>(longest, kWidth));
  Json& legend = specification["config"]["legend"];
  legend["columns"] = std::clamp(kWidth / width, 1, kMostColumns);
  legend["labelLimit"] = kWidth - kSymbol;
}

std::string specification_text(const Json& specification) {
  Json visible = specification;
  make_visible(visible);
  return visible.dump(1, ' ', false, Json::error_handler_t::replace);
}

void check_text(const FigureText& text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-';
  };
  KVLAB_CHECK(!text.id.empty() && std::all_of(text.id.begin(), text.id.end(), plain),
              "[figures.id] an id is made of letters, digits, '_' and '-', got '", text.id, "'");
}

bool drawable(const FigureAxis& axis, double value) {
  return std::isfinite(value) && (!axis.logarithmic || value > 0);
}

Json channel(const FigureAxis& axis, const std::string& field, const std::vector<double>& ticks) {
  return Json{{"field", field},
              {"type", "quantitative"},
              {"scale", scale_json(axis)},
              {"axis", axis_json(axis, ticks)}};
}

std::vector<double> distinct_ticks(const FigureAxis& axis, std::vector<double> values) {
  std::erase_if(values, [&](double value) { return !drawable(axis, value); });
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  constexpr std::size_t kMostLabels = 12;
  if (values.size() > kMostLabels || values.empty()) return {};
  // Neighbours whose labels would touch lose theirs; the ends keep theirs.
  const auto place = [&](double value) { return axis.logarithmic ? std::log(value) : value; };
  const double room = kClosestLabels * (place(values.back()) - place(values.front()));
  std::vector<double> kept{values.front()};
  if (values.size() == 1) return kept;
  for (std::size_t i = 1; i + 1 < values.size(); ++i) {
    const bool apart = place(values[i]) - place(kept.back()) >= room &&
                       place(values.back()) - place(values[i]) >= room;
    if (apart) kept.push_back(values[i]);
  }
  kept.push_back(values.back());
  return kept;
}

std::vector<double> round_ticks(const FigureAxis& axis, const std::vector<double>& values) {
  if (!axis.logarithmic || values.empty()) return {};
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  constexpr double kManyDecades = 1e3;
  const bool powers_only = *high / *low > kManyDecades;
  std::vector<double> ticks;
  for (double power = std::pow(10, std::floor(std::log10(*low))); power <= *high; power *= 10) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (powers_only && factor > 1) continue;
      if (power * factor >= *low * 0.999 && power * factor <= *high * 1.001)
        ticks.push_back(power * factor);
    }
  }
  // Fewer than two labels tell no scale: the renderer finds finer ones.
  if (ticks.size() < 2) ticks.clear();
  return ticks;
}

void keep_points_off_the_edge(const FigureAxis& axis, Json& channel_json) {
  constexpr int kPadding = 12;
  if (axis.logarithmic || !axis.from_zero) channel_json["scale"]["padding"] = kPadding;
}

std::string caption_with_omissions(const std::string& caption, int count) {
  if (count == 0) return caption;
  const std::string note =
      std::to_string(count) + (count == 1 ? " point is" : " points are") +
      " not drawn (undefined, or not positive on a logarithmic axis); the data file has " +
      (count == 1 ? "it." : "them.");
  return caption.empty() ? note : caption + " " + note;
}

std::string csv_value(const std::optional<double>& value) {
  if (!value || !std::isfinite(*value)) return {};
  std::array<char, 64> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), *value);
  return {buffer.data(), end.ptr};
}

std::string short_label(double value) {
  const double size = std::abs(value);
  const int decimals = size >= 100 || size == 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  std::array<char, 400> buffer{};
  const bool ordinary = size == 0 || (size >= 0.001 && size < 1e9);
  std::snprintf(buffer.data(), buffer.size(), ordinary ? "%.*f" : "%.*e", ordinary ? decimals : 2,
                value);
  return buffer.data();
}

}  // namespace kvlab::figure_style

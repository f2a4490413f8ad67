// The parts every figure shares: frame, palette, axes and captions. Private to the figure builders.
#pragma once

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/figures.h"

namespace kvlab::figure_style {

using Json = nlohmann::ordered_json;

inline constexpr int kWidth = 620;
inline constexpr int kHeight = 340;
inline constexpr const char* kGrey = "#8a8a8a";

/// Colours for `count` series (Okabe and Ito 2008, without the ones lost on a light or dark page);
/// repeats after seven, where shapes and dashes still tell series apart.
Json palette(std::size_t count);

/// Starts a specification: transparent, described for screen readers, axes in mid-grey.
Json frame(const FigureText& text);

/// Gives the legend as many columns as fit beside each other, and long names the whole width.
void fit_legend(Json& specification, const std::vector<std::string>& names);

/// Writes a specification as JSON. Control characters in its texts are made visible: one of them
/// would make the drawing no XML.
std::string specification_text(const Json& specification);

/// Throws UserError for an id that cannot be a file name.
void check_text(const FigureText& text);

/// True where a point at `value` can be placed on the axis.
bool drawable(const FigureAxis& axis, double value);

/// Encodes the field on the axis. `ticks` are the values labelled on a logarithmic axis; empty
/// leaves them to the renderer.
Json channel(const FigureAxis& axis, const std::string& field, const std::vector<double>& ticks);

/// The distinct values where they are few, without those too near to a neighbour; else empty.
std::vector<double> distinct_ticks(const FigureAxis& axis, std::vector<double> values);

/// Ticks at 1, 2 and 5 times the powers of ten within `values`, on a logarithmic axis; else empty.
std::vector<double> round_ticks(const FigureAxis& axis, const std::vector<double>& values);

/// Widens the axis of an encoding so that no marker touches the frame, unless it starts at zero.
void keep_points_off_the_edge(const FigureAxis& axis, Json& channel_json);

/// Adds "2 points are not drawn ..." to a caption where `count` is not zero.
std::string caption_with_omissions(const std::string& caption, int count);

/// Writes a number for a CSV with all its digits; empty where it is absent or not finite.
std::string csv_value(const std::optional<double>& value);

/// Writes a number with about three significant digits for a label in a drawing.
std::string short_label(double value);

}  // namespace kvlab::figure_style

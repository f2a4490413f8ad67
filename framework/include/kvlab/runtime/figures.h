// Figures from plain series: an experiment gives numbers and names, and gets a Vega-Lite
// specification with its data inline and the same numbers as CSV. Colours are distinguishable with
// colour-vision deficiencies, and legible on a light and on a dark page.
//
// Points that cannot be drawn (not finite, or not positive on a logarithmic axis) are left out of
// the drawing, kept in the CSV, and counted in the caption. Every builder throws UserError where it
// is given nothing at all or an id that is not a plain file name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/report_document.h"

namespace kvlab {

/// What a figure is called. `id` becomes its file name.
struct FigureText {
  std::string id = {};
  std::string title = {};
  std::string caption = {};  ///< one or two sentences: what to see, n, what the bars are
};

struct FigureAxis {
  std::string title = {};         ///< with unit: "Output length [tokens]"
  bool logarithmic = false;  ///< base 2 where `base` is 2, as suits lengths
  int base = 10;
  bool from_zero = false;    ///< linear axes only; bars always start at zero
};

struct LinePoint {
  double x = 0;
  double y = 0;
  std::optional<double> low = {}, high = {};  ///< ends of the error bar, in the unit of y
};

struct LineSeries {
  std::string name = {};  ///< an arm, "predicted"
  std::vector<LinePoint> points = {};
  bool dashed = false;   ///< for a model or bound beside measurements
  bool markers = true;
};

/// A line across the whole plot, such as a break-even length or a bandwidth bound.
struct ReferenceRule {
  enum class Axis { x, y };
  Axis axis = Axis::x;  ///< x: a vertical line at `value`; y: a horizontal one
  double value = 0;
  std::string label = {};
};

/// Draws several series as lines with markers. Series keep the order and colours of the vector.
ReportFigure line_chart(const FigureText& text, const FigureAxis& x, const FigureAxis& y,
                        const std::vector<LineSeries>& series,
                        const std::vector<ReferenceRule>& rules = {});

struct Bar {
  std::string category = {};  ///< an arm
  double value = 0;
  std::optional<double> low = {}, high = {};  ///< ends of the error bar; not drawn when stacked
  std::string series = {};    ///< part of a stack or member of a group; empty for plain bars
};

enum class BarLayout { grouped, stacked };

/// Draws horizontal bars, one category per line, in the order given. `value` titles the value axis.
ReportFigure bar_chart(const FigureText& text, const FigureAxis& value,
                       const std::vector<Bar>& bars, BarLayout layout = BarLayout::grouped);

struct ScatterPoint {
  double x = 0;
  double y = 0;
  std::string label = {};
  bool dominated = false;  ///< another point is at least as good on both axes: drawn grey
  std::optional<double> x_low = {}, x_high = {};  ///< interval across, drawn as an error bar
  std::optional<double> y_low = {}, y_high = {};  ///< interval upwards
};

/// Sets `dominated` of every point for which another is at least as good on both axes and better on
/// one. Points that are not finite are dominated and dominate nothing. Throws UserError where a
/// direction is `none`.
void mark_dominated(std::vector<ScatterPoint>& points, BetterDirection x, BetterDirection y);

/// Draws labelled points; the ones that are not dominated are joined as the Pareto front.
ReportFigure scatter_chart(const FigureText& text, const FigureAxis& x, const FigureAxis& y,
                           const std::vector<ScatterPoint>& points);

/// One cell of a grid, such as one token in one step of a work trace.
struct GridCell {
  int64_t row = 0;
  int64_t column = 0;
  std::string category = {};  ///< "computed", "reused": decides the colour
  std::string label = {};     ///< printed in the cell; empty for none
};

/// One of several grids, such as the work trace of one arm.
struct GridPanel {
  std::string name = {};
  std::vector<GridCell> cells = {};
};

/// Draws the panels one below the other, row 0 on top. Categories take colours in the order of
/// their first appearance.
ReportFigure grid_chart(const FigureText& text, const std::string& row_title,
                        const std::string& column_title, const std::vector<GridPanel>& panels);

}  // namespace kvlab

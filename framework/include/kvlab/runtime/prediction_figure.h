// Predictions against measurements: a square plot in which a right prediction lies on the diagonal.
#pragma once

#include <string>
#include <vector>

#include "kvlab/runtime/figures.h"

namespace kvlab {

/// One quantity of one arm, both ways.
struct PredictedPoint {
  std::string series = {};  ///< an arm: decides colour and shape
  std::string what = {};    ///< "reserved", "peak, 512 tokens": stands in the CSV
  double predicted = 0;
  double measured = 0;
};

/// Draws the points on logarithmic axes of one scale, `quantity` with its unit in both titles, with
/// the line on which predictions are right. The caption gets how far the worst one is off. Points
/// that are zero both ways have no place on the axes: they count as right and stand in the CSV.
/// Throws UserError for no point at all and for an id that is not a plain file name.
ReportFigure prediction_chart(const FigureText& text, const std::string& quantity,
                              const std::vector<PredictedPoint>& points);

}  // namespace kvlab

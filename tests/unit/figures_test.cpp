#include "kvlab/runtime/figures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

using Json = nlohmann::json;

const FigureText kText{"speed", "Speed", "Medians."};

// All values of a key, anywhere in the specification.
void collect(const Json& json, const std::string& key, std::vector<Json>& found) {
  if (json.is_object() && json.contains(key)) found.push_back(json.at(key));
  for (const auto& item : json) {
    if (item.is_structured()) collect(item, key, found);
  }
}

bool contains(const Json& json, const std::string& key, const Json& value) {
  std::vector<Json> found;
  collect(json, key, found);
  for (const auto& item : found) {
    if (item == value) return true;
  }
  return false;
}

TEST(Figures, LineChartKeepsSeriesOrderAndAxes) {
  const ReportFigure figure =
      line_chart(kText, {"Length [tokens]", true, 2}, {"Speed [tokens/s]"},
                 {{"zeta", {{16, 1, 0.9, 1.1}, {64, 2}}}, {"alpha", {{16, 3}}, true}},
                 {{ReferenceRule::Axis::x, 32, "break-even"}});
  const Json json = Json::parse(figure.vega_lite);
  EXPECT_TRUE(contains(json, "domain", Json({"zeta", "alpha"})));
  EXPECT_TRUE(contains(json, "title", "Length [tokens]"));
  EXPECT_TRUE(contains(json, "base", 2));
  EXPECT_TRUE(contains(json, "values", Json({16.0, 64.0})));
  EXPECT_TRUE(contains(json, "datum", 32.0));
  EXPECT_TRUE(contains(json, "value", "break-even"));
  EXPECT_TRUE(contains(json, "type", "errorbar"));
  EXPECT_EQ(json.at("background"), "transparent");
  EXPECT_EQ(figure.csv,
            "series,Length [tokens],Speed [tokens/s],low,high\r\n"
            "zeta,16,1,0.9,1.1\r\nzeta,64,2,,\r\nalpha,16,3,,\r\n");
}

TEST(Figures, PointsThatCannotBeDrawnAreCountedAndKeptInTheCsv) {
  const ReportFigure figure =
      line_chart(kText, {"x", true}, {"y", true},
                 {{"a", {{1, 1}, {0, 1}, {2, std::nan("")}, {3, -1}, {4, 4}}}});
  EXPECT_EQ(figure.caption,
            "Medians. 3 points are not drawn (undefined, or not positive on a logarithmic axis); "
            "the data file has them.");
  EXPECT_EQ(figure.csv, "series,x,y,low,high\r\na,1,1,,\r\na,0,1,,\r\na,2,,,\r\na,3,-1,,\r\n"
                        "a,4,4,,\r\n");
  std::vector<Json> values;
  collect(Json::parse(figure.vega_lite).at("layer")[0], "values", values);
  ASSERT_FALSE(values.empty());
  EXPECT_EQ(values[0].size(), 2u);
}

TEST(Figures, BarsStartAtZeroAndStackInOrder) {
  const std::vector<Bar> bars{{"paged", 3, {}, {}, "payload"}, {"paged", 1, {}, {}, "metadata"},
                              {"concat", 2, {}, {}, "payload"}};
  const Json stacked = Json::parse(bar_chart(kText, {"MB"}, bars, BarLayout::stacked).vega_lite);
  EXPECT_TRUE(contains(stacked, "zero", true));
  EXPECT_TRUE(contains(stacked, "sort", Json({"paged", "concat"})));
  EXPECT_TRUE(contains(stacked, "label", "4.00")) << "the total stands at the end of the stack";
  const Json grouped = Json::parse(bar_chart(kText, {"MB"}, bars).vega_lite);
  EXPECT_FALSE(contains(stacked, "sort", Json({"payload", "metadata"})));
  EXPECT_TRUE(contains(grouped, "sort", Json({"payload", "metadata"})));
  EXPECT_THROW(bar_chart(kText, {"MB", true}, bars), UserError);
}

TEST(Figures, DominatedPointsAreThoseThatAnotherBeats) {
  std::vector<ScatterPoint> points{{1, 10, "small"},  {2, 20, "front"},  {2, 15, "worse"},
                                   {3, 20, "larger"}, {2, 20, "twin"},   {std::nan(""), 99, "nan"},
                                   {9, 30, "fast"}};
  mark_dominated(points, BetterDirection::lower, BetterDirection::higher);
  std::vector<std::string> front;
  for (const auto& point : points) {
    if (!point.dominated) front.push_back(point.label);
  }
  EXPECT_EQ(front, (std::vector<std::string>{"small", "front", "twin", "fast"}));
  EXPECT_THROW(mark_dominated(points, BetterDirection::none, BetterDirection::higher), UserError);
}

TEST(Figures, ScatterLabelsOfNeighboursStandOnDifferentSides) {
  const ReportFigure figure = scatter_chart(
      kText, {"MB"}, {"tokens/s"}, {{1, 1, "left"}, {5, 5, "first"}, {5.1, 5, "second"},
                                    {10, 10, "right_edge_with_a_long_name"}});
  std::vector<Json> placements;
  collect(Json::parse(figure.vega_lite).at("data").at("values"), "placement", placements);
  ASSERT_EQ(placements.size(), 4u);
  EXPECT_NE(placements[1], placements[2]);
  EXPECT_NE(placements[3], Json(0)) << "the label would leave the plot on the right";
  EXPECT_EQ(figure.csv, "label,MB,tokens/s,dominated\r\nleft,1,1,no\r\nfirst,5,5,no\r\n"
                        "second,5.1,5,no\r\nright_edge_with_a_long_name,10,10,no\r\n");
}

TEST(Figures, PointsOnOnePlaceShareALabel) {
  const ReportFigure figure =
      scatter_chart(kText, {"MB"}, {"KL"}, {{4, 0, "none"}, {4, 0, "paged"}, {4, 1, "int8"}});
  std::vector<Json> labels;
  collect(Json::parse(figure.vega_lite).at("data").at("values"), "label", labels);
  EXPECT_EQ(labels, (std::vector<Json>{"none, paged", "", "int8"}));
  EXPECT_EQ(figure.csv, "label,MB,KL,dominated\r\nnone,4,0,no\r\npaged,4,0,no\r\n"
                        "int8,4,1,no\r\n");
}

TEST(Figures, LengthsTooNearToEachOtherAreNotAllLabelled) {
  const ReportFigure figure = line_chart(
      kText, {"Length", true, 2}, {"ms"}, {{"a", {{33, 1}, {34, 1}, {35, 1}, {64, 1}, {95, 1}}}});
  EXPECT_TRUE(contains(Json::parse(figure.vega_lite), "values", Json({33.0, 35.0, 64.0, 95.0})));
}

TEST(Figures, GridShowsPanelsInOrderWithOneColourPerCategory) {
  const ReportFigure figure = grid_chart(
      kText, "Step", "Position",
      {{"none", {{0, 0, "computed", "C"}}}, {"paged", {{0, 0, "reused", ""}, {1, 1, "computed"}}}});
  const Json json = Json::parse(figure.vega_lite);
  ASSERT_EQ(json.at("vconcat").size(), 2u);
  EXPECT_EQ(json.at("vconcat")[1].at("title"), "paged");
  EXPECT_TRUE(contains(json.at("vconcat")[0], "domain", Json({"computed", "reused"})));
  EXPECT_EQ(figure.csv, "panel,Step,Position,category,label\r\nnone,0,0,computed,C\r\n"
                        "paged,0,0,reused,\r\npaged,1,1,computed,\r\n");
}

TEST(Figures, RefusesNothingAndBadNames) {
  EXPECT_THROW(line_chart(kText, {"x"}, {"y"}, {}), UserError);
  EXPECT_THROW(bar_chart(kText, {"x"}, {}), UserError);
  EXPECT_THROW(scatter_chart(kText, {"x"}, {"y"}, {}), UserError);
  EXPECT_THROW(grid_chart(kText, "r", "c", {}), UserError);
  EXPECT_THROW(grid_chart(kText, "r", "c", {{"empty", {}}}), UserError);
  EXPECT_THROW(line_chart({"a/b", "t"}, {"x"}, {"y"}, {{"s", {{1, 1}}}}), UserError);
  EXPECT_THROW(line_chart(kText, {"x"}, {"y"}, {{"s", {{1, 1}}}, {"s", {{2, 2}}}}), UserError);
}

}  // namespace
}  // namespace kvlab

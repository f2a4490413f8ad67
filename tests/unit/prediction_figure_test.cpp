#include "kvlab/runtime/prediction_figure.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

using Json = nlohmann::json;

const FigureText kText{"predicted", "Predicted", "Bytes."};

TEST(PredictionFigure, BothAxesHaveOneScaleWithEveryPointAndTheDiagonalAcrossIt) {
  const ReportFigure figure = prediction_chart(
      kText, "bytes [MB]", {{"paged", "peak", 8, 8}, {"paged", "reserved", 2, 2.5}});
  const Json json = Json::parse(figure.vega_lite);
  const Json& diagonal = json.at("layer")[0];
  const Json& points = json.at("layer")[1];
  const Json domain = points.at("encoding").at("x").at("scale").at("domain");
  EXPECT_EQ(points.at("encoding").at("x").at("scale").at("type"), "log");
  EXPECT_EQ(points.at("encoding").at("y").at("scale").at("domain"), domain);
  EXPECT_EQ(json.at("width"), json.at("height"));
  EXPECT_LT(domain[0], 2);
  EXPECT_GT(domain[1], 8);
  for (const Json& end : diagonal.at("data").at("values")) EXPECT_EQ(end.at("x"), end.at("y"));
  EXPECT_EQ(diagonal.at("data").at("values")[0].at("x"), domain[0]);
  EXPECT_EQ(diagonal.at("data").at("values")[1].at("x"), domain[1]);
  EXPECT_EQ(figure.csv, "series,what,predicted bytes [MB],measured bytes [MB]\r\n"
                        "paged,peak,8,8\r\npaged,reserved,2,2.5\r\n");
}

TEST(PredictionFigure, TheCaptionSaysHowFarTheWorstPredictionIsOff) {
  EXPECT_EQ(prediction_chart(kText, "bytes", {{"a", "peak", 3, 3}, {"b", "peak", 5, 5}}).caption,
            "Bytes. All 2 predictions are right to the last digit.");
  EXPECT_EQ(prediction_chart(kText, "bytes",
                             {{"a", "peak", 3, 3}, {"b", "peak", 90, 100}, {"b", "x", 101, 100}})
                .caption,
            "Bytes. 1 of 3 predictions are right; the worst, b peak, is off by -10 %.");
}

TEST(PredictionFigure, ZeroBytesAreRightWhereNothingWasPredictedAndWrongElsewhere) {
  const std::string right =
      prediction_chart(kText, "bytes", {{"none", "peak", 0, 0}, {"a", "peak", 3, 3}}).caption;
  EXPECT_NE(right.find("All 2 predictions are right"), std::string::npos) << right;
  EXPECT_NE(right.find("1 point is not drawn"), std::string::npos) << right;
  const std::string wrong =
      prediction_chart(kText, "bytes", {{"none", "peak", 4, 0}, {"a", "peak", 3, 2}}).caption;
  EXPECT_NE(wrong.find("the worst, none peak, is one of something that is not there"),
            std::string::npos)
      << wrong;
}

TEST(PredictionFigure, RefusesNothingAndBadNames) {
  EXPECT_THROW(prediction_chart(kText, "bytes", {}), UserError);
  EXPECT_THROW(prediction_chart({"a/b", "t"}, "bytes", {{"a", "peak", 1, 1}}), UserError);
}

}  // namespace
}  // namespace kvlab

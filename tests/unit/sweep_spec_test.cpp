// What a sweep varies: axes of the command line, `sweep:` of a file, and their product.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/sweep/sweep_spec.h"

namespace {

using namespace kvlab;
using testing::ElementsAre;
using testing::HasSubstr;
using Texts = std::vector<std::string>;

Texts values(const SweepFactor& factor) {
  Texts texts;
  for (const SweepPoint& point : factor) texts.push_back(point.at(0).value);
  return texts;
}

Texts axis(const std::string& text) { return values(parse_axis(text)); }

std::string refusal(const std::string& text) {
  try {
    parse_axis(text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

std::vector<SweepFactor> read(const std::string& yaml) {
  const ConfigNode root = parse_config_text(yaml, "sweep.yaml");
  return read_sweep(*root.find("sweep"));
}

std::string file_refusal(const std::string& yaml) {
  try {
    read(yaml);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

Texts cases(const std::vector<SweepFactor>& factors) {
  Texts texts;
  for (const SweepPoint& point : sweep_points(factors)) {
    std::string text;
    for (const SweepSetting& each : point) text += (text.empty() ? "" : " ") + each.override_text();
    texts.push_back(text);
  }
  return texts;
}

TEST(SweepAxis, CommasSeparateValues) {
  EXPECT_THAT(axis("a.b=1,2,4"), ElementsAre("1", "2", "4"));
  EXPECT_THAT(axis("a= 1 , x "), ElementsAre("1", "x"));
  EXPECT_EQ(parse_axis("a.b=1")[0][0].key, "a.b");
}

TEST(SweepAxis, CommasInsideBracketsAndQuotesSeparateNothing) {
  EXPECT_THAT(axis("a=[1,2],[3]"), ElementsAre("[1,2]", "[3]"));
  EXPECT_THAT(axis("a={type: paged, block_size: 16},none"),
              ElementsAre("{type: paged, block_size: 16}", "none"));
  EXPECT_THAT(axis(R"(a="x, y",'p, q',z)"), ElementsAre(R"("x, y")", "'p, q'", "z"));
  EXPECT_THAT(axis(R"(a="a\",b",c)"), ElementsAre(R"("a\",b")", "c"));
  EXPECT_THAT(axis("a=[[1,2],{b: [3,4]}],5"), ElementsAre("[[1,2],{b: [3,4]}]", "5"));
  EXPECT_THAT(axis("a=don't,do"), ElementsAre("don't", "do"));
}

TEST(SweepAxis, RangesExcludeTheirStopAndMayGoDown) {
  EXPECT_THAT(axis("task.len=range(512,4097,512)"),
              ElementsAre("512", "1024", "1536", "2048", "2560", "3072", "3584", "4096"));
  EXPECT_THAT(axis("a=range(2,5)"), ElementsAre("2", "3", "4"));
  EXPECT_THAT(axis("a=range(3,-3,-2)"), ElementsAre("3", "1", "-1"));
  EXPECT_THAT(axis("a=1,range(4,6),9"), ElementsAre("1", "4", "5", "9"));
}

TEST(SweepAxis, WhatIsNoAxisIsRefusedWithTheReason) {
  EXPECT_THAT(refusal("a"), HasSubstr("an axis is key=value"));
  EXPECT_THAT(refusal("=1"), HasSubstr("an axis is key=value"));
  EXPECT_THAT(refusal("a="), HasSubstr("an axis is key=value"));
  EXPECT_THAT(refusal("a=1,,2"), HasSubstr("a value between commas is missing"));
  EXPECT_THAT(refusal("a=[1,2"), HasSubstr("a bracket is not closed"));
  EXPECT_THAT(refusal("a=\"1"), HasSubstr("a quote is not closed"));
  EXPECT_THAT(refusal("a=1]"), HasSubstr("closes no bracket"));
  EXPECT_THAT(refusal("a=range(1,5,0)"), HasSubstr("the step is 0"));
  EXPECT_THAT(refusal("a=range(5,1)"), HasSubstr("holds no value"));
  EXPECT_THAT(refusal("a=range(1)"), HasSubstr("got 1 numbers"));
  EXPECT_THAT(refusal("a=range(0,1.5)"), HasSubstr("whole numbers, got '1.5'"));
  EXPECT_THAT(refusal("a=range(0,900000000000)"), HasSubstr("more than 10000 values"));
  EXPECT_THAT(refusal("a=range(0,9223372036854775807,4611686018427387904)"),
              HasSubstr("at most 1000000000000000 either way"));
}

TEST(SweepFile, GridZipAndListMultiply) {
  const auto factors = read(
      "sweep:\n"
      "  grid: {a: [1, 2], b.c: [x]}\n"
      "  zip: {d: [3, 4], e: [5, 6]}\n"
      "  list: [{f: 7}, {g: 8, h: 9}]\n");
  EXPECT_EQ(count_cases(factors, 100), 8);
  EXPECT_THAT(cases(factors),
              ElementsAre("a=1 b.c=x d=3 e=5 f=7", "a=1 b.c=x d=3 e=5 g=8 h=9",
                          "a=1 b.c=x d=4 e=6 f=7", "a=1 b.c=x d=4 e=6 g=8 h=9",
                          "a=2 b.c=x d=3 e=5 f=7", "a=2 b.c=x d=3 e=5 g=8 h=9",
                          "a=2 b.c=x d=4 e=6 f=7", "a=2 b.c=x d=4 e=6 g=8 h=9"));
  EXPECT_THAT(sweep_keys(factors), ElementsAre("a", "b.c", "d", "e", "f", "g", "h"));
}

TEST(SweepFile, ValuesBecomeFlowStyleThatParsesToTheSame) {
  const auto factors = read(
      "sweep:\n"
      "  grid:\n"
      "    a:\n"
      "      - {type: paged, block_size: 16}\n"
      "      - [1, 2]\n"
      "      - 'a, b'\n"
      "      - '12'\n"
      "      - \"say \\\"x\\\"\\n\"\n"
      "      - plain text, with commas\n"
      "      - true\n"
      "    len: range(1,4)\n");
  const Texts found = values(factors.at(0));
  EXPECT_THAT(found, ElementsAre("{type: paged, block_size: 16}", "[1, 2]", "\"a, b\"", "\"12\"",
                                 "\"say \\\"x\\\"\\n\"", "\"plain text, with commas\"", "true"));
  EXPECT_THAT(values(factors.at(1)), ElementsAre("1", "2", "3"));
  for (const std::string& value : found) {
    const ConfigNode again = parse_config_text("v: " + value, "again.yaml");
    EXPECT_EQ(flow_text(*again.find("v")), value);
  }
}

TEST(SweepFile, AKeyThatIsRemovedIsASettingToo) {
  const auto factors = read("sweep: {list: [{~a.b: x}, {c: 1}]}");
  EXPECT_THAT(cases(factors), ElementsAre("~a.b", "c=1"));
}

TEST(SweepFile, MistakesAreRefusedWithTheirPlace) {
  EXPECT_THAT(file_refusal("sweep: {gird: {a: [1]}}"), HasSubstr("grid"));
  EXPECT_THAT(file_refusal("sweep: {zip: {a: [1, 2], b: [3]}}"), HasSubstr("got 1 here and 2"));
  EXPECT_THAT(file_refusal("sweep:\n  grid:\n    a: 3\n"), HasSubstr("sweep.yaml:3:8"));
  EXPECT_THAT(file_refusal("sweep: {grid: {a: []}}"), HasSubstr("a list of values"));
  EXPECT_THAT(file_refusal("sweep: {list: {a: 1}}"), HasSubstr("a list of maps"));
  EXPECT_THAT(file_refusal("sweep: {}"), HasSubstr("got an empty one"));
  EXPECT_THAT(file_refusal("sweep: {grid: []}"), HasSubstr("a map of keys"));
}

TEST(SweepCases, AnAxisOfTheCommandLineTakesThePlaceOfTheSameKeyOfTheGrid) {
  const std::string file = "sweep: {grid: {a: [1, 2], b: [3]}, zip: {c: [1, 2], d: [5, 6]}}";
  auto factors = read(file);
  take_axes(factors, {"a=7,8", "e=9"});
  EXPECT_EQ(count_cases(factors, 100), 4);
  EXPECT_THAT(cases(factors), ElementsAre("a=7 b=3 c=1 d=5 e=9", "a=7 b=3 c=2 d=6 e=9",
                                          "a=8 b=3 c=1 d=5 e=9", "a=8 b=3 c=2 d=6 e=9"));
  for (const Texts& refused : {Texts{"a=7", "a=8"}, Texts{"c=1,2"}, Texts{"e=1", "e=2"}}) {
    factors = read(file);
    take_axes(factors, refused);
    EXPECT_THROW(count_cases(factors, 100), UserError) << refused[0];
  }
}

TEST(SweepCases, AreLimitedAndNoKeyVariesTwice) {
  EXPECT_THROW(count_cases({parse_axis("a=1,2,1")}, 100), UserError) << "one case would count twice";
  EXPECT_EQ(count_cases({parse_axis("a=1,2"), parse_axis("b=1,2")}, 100), 4);
  const std::vector<SweepFactor> two = {parse_axis("a=range(0,100)"), parse_axis("b=range(0,101)")};
  EXPECT_EQ(count_cases(two, 10100), 10100);
  try {
    count_cases(two, 10099);
    ADD_FAILURE() << "10,100 cases were accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("at most 10099"));
  }
  try {
    count_cases({parse_axis("a=1"), parse_axis("a=2")}, 10);
    ADD_FAILURE() << "a key that varies twice was accepted";
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("'a' is varied twice"));
  }
}

}  // namespace

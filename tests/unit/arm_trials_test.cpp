#include "kvlab/runtime/arm_trials.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

struct Read {
  ComparisonConfig comparison;
  ArmTrials trials;
};

Read read(const std::string& measure, const std::string& second = "b") {
  const std::string text =
      "model: {name: m, source: {type: random, seed: 3}, shape: {vocabulary: 256, context: 64, "
      "d_model: 24, layers: 2, n_heads: 4, n_kv_heads: 2, d_mlp: 32, norm: rmsnorm, "
      "norm_epsilon: 1e-6, mlp: swiglu, position: {type: rope, theta: 10000}}}\n"
      "arms: [{name: a, cache: none}, {name: " +
      second + ", cache: concat}]\ncontrol: a\n" + measure;
  ConfigReader reader(parse_config_text(text, "f.yaml"));
  Read found;
  found.comparison = parse_comparison(reader);
  found.trials = parse_arm_trials(reader, found.comparison);
  if (found.trials.aa) add_second_control(reader, found.comparison);
  reader.finish();
  return found;
}

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no UserError";
}

TEST(ArmTrials, TheControlIsMeasuredTwiceByDefault) {
  const Read found = read("");
  ASSERT_EQ(found.comparison.arms.size(), 3u);
  EXPECT_EQ(found.comparison.arms.back().name, "a_again");
  EXPECT_EQ(to_string(found.comparison.arms.back().cache), "none");
  EXPECT_EQ(found.comparison.measure.repeats, kComparedRepeats);
  EXPECT_EQ(read("measure: {aa: false, repeats: 4}").comparison.arms.size(), 2u);
}

TEST(ArmTrials, RefusesAnArmWithTheNameOfTheSecondControl) {
  const std::string message = message_of([] { read("", "a_again"); });
  EXPECT_NE(message.find("arms: the control is measured a second time as 'a_again'"),
            std::string::npos)
      << message;
  EXPECT_EQ(read("measure: {aa: false}", "a_again").comparison.arms.size(), 2u);
}

TEST(ArmTrials, ReadsPlantedSlowdownsOfArms) {
  const Read found = read("measure: {planted_slowdown: {b: 1.05, a_again: 1.02}}");
  EXPECT_EQ(found.trials.planted_slowdown,
            (std::map<std::string, double>{{"b", 1.05}, {"a_again", 1.02}}));
  EXPECT_NE(message_of([] { read("measure: {planted_slowdown: {c: 1.05}}"); }).find("'c'"),
            std::string::npos);
  EXPECT_NE(message_of([] { read("measure: {planted_slowdown: {b: 0.9}}"); }).find("0.9"),
            std::string::npos);
  EXPECT_NE(message_of([] { read("measure: {aaa: true}"); }).find("'aaa'"), std::string::npos);
}

// Kinds that bring no second control must not take the key silently.
TEST(ArmTrials, OtherKindsDoNotKnowTheKeys) {
  ConfigReader reader(parse_config_text("measure: {aa: true}", "f.yaml"));
  EXPECT_NE(message_of([&] { parse_measure(reader); }).find("'aa' is not known"),
            std::string::npos);
}

TEST(ArmTrials, KindsThatReadPartByPartLeaveItsKeysToTheTrials) {
  ConfigReader reader(
      parse_config_text("measure: {repeats: 3, aa: false, planted_slowdown: {b: 1.5}}", "f.yaml"));
  const MeasureConfig measure = parse_measure_of_trials(reader);
  ComparisonConfig comparison;
  comparison.control = "a";
  for (const char* name : {"a", "b"}) comparison.arms.emplace_back().name = name;
  const ArmTrials trials = parse_arm_trials(reader, comparison);
  reader.finish();
  EXPECT_EQ(measure.repeats, 3);
  EXPECT_FALSE(trials.aa);
  EXPECT_EQ(planted_slowdown(trials, "b"), 1.5);
  EXPECT_EQ(planted_slowdown(trials, "a"), 1.0);
}

TEST(ArmTrials, APlantedStepWaitsUntilItTookAsMuchLonger) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now() - std::chrono::milliseconds(2);
  wait_planted(begin, 3.0);
  EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(6));
}

TEST(ArmTrials, APlantedSlowdownMakesAStepTakeLonger) {
  using Clock = std::chrono::steady_clock;
  const ArmTrials trials = read("measure: {planted_slowdown: {b: 3.0}}").trials;
  EXPECT_EQ(planted_slowdown(trials, "a"), 1.0);
  PlantedSlowdown slowdown(planted_slowdown(trials, "b"));
  const auto start = Clock::now();
  while (Clock::now() - start < std::chrono::milliseconds(5)) {
  }
  slowdown.after_step();
  EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(15));
}

}  // namespace
}  // namespace kvlab

#include "kvlab/runtime/power_simulation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>

#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_trials.h"

namespace kvlab {
namespace {

// One decode of 32 tokens of SmolLM2-135M again and again, on two cores that others used at times
// (tests/fixtures/README.md says how they were recorded). The rule was chosen on the first.
const std::string kRecording = KVLAB_SOURCE_DIR "/tests/fixtures/recorded_samples.jsonl";
const std::string kLaterRecording =
    KVLAB_SOURCE_DIR "/tests/fixtures/recorded_samples_later.jsonl";

class RecordedPower : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(PowerSimulation, RecordedPower,
                         testing::Values(kRecording, kLaterRecording), [](const auto& tested) {
                           return tested.param == kRecording ? "first" : "later";
                         });

PowerOptions shipped() {
  PowerOptions options;
  options.blocks = kComparedRepeats;
  return options;
}

TEST_P(RecordedPower, TheSameCodeIsHardlyEverCalledDifferent) {
  const RecordedTimes times = read_recorded_times(GetParam());
  ASSERT_GE(times.ns.size(), 200u);
  const Power power = simulate_power(times, shipped());
  EXPECT_LE(power.false_alarms.rate, 0.05);
  EXPECT_EQ(power.false_alarms.n, 200);
  EXPECT_LE(power.refused.rate, 0.05);
}

TEST_P(RecordedPower, ASlowdownOfFivePercentIsNearlyAlwaysFound) {
  const Power power = simulate_power(read_recorded_times(GetParam()), shipped());
  EXPECT_GE(power.found.rate, 0.95);
}

// Blocks are what finds it: the rule itself is not simply easy to please.
TEST(PowerSimulation, FiveBlocksMissMostSlowdownsOfThisMachine) {
  PowerOptions options = shipped();
  options.blocks = 5;
  const Power power = simulate_power(read_recorded_times(kRecording), options);
  EXPECT_LT(power.found.rate, 0.8);
  EXPECT_LE(power.false_alarms.rate, 0.05);
}

TEST(PowerSimulation, RefusedComparisonsFindNothing) {
  RecordedTimes times = read_recorded_times(kRecording);
  times.contended.assign(times.ns.size(), true);
  PowerOptions options = shipped();
  options.trials = 20;
  const Power power = simulate_power(times, options);
  EXPECT_EQ(power.refused.rate, 1);
  EXPECT_EQ(power.found.rate, 0);
}

TEST(PowerSimulation, TheSeedAloneDecides) {
  const RecordedTimes times = read_recorded_times(kRecording);
  PowerOptions options = shipped();
  options.trials = 50;
  options.blocks = 10;
  const double once = simulate_power(times, options).found.rate;
  EXPECT_EQ(simulate_power(times, options).found.rate, once);
}

TEST(PowerSimulation, KnowsHowManyBlocksARecordingIsEnoughFor) {
  RecordedTimes times = read_recorded_times(kRecording);
  times.ns.resize(80);
  EXPECT_EQ(most_blocks(times), 26);
  PowerOptions options = shipped();
  options.trials = 2;
  options.blocks = most_blocks(times);
  EXPECT_EQ(simulate_power(times, options).refused.n, 2);
  options.blocks = 27;
  try {
    simulate_power(times, options);
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("measure.repeats=41"), std::string::npos)
        << error.what();
  }
}

TEST(PowerSimulation, RefusesRecordingsThatAreTooShortOrAbsent) {
  RecordedTimes times = read_recorded_times(kRecording);
  times.ns.resize(3 * kComparedRepeats - 1);
  EXPECT_THROW(simulate_power(times, shipped()), UserError);
  EXPECT_THROW(read_recorded_times("/no/such/file"), UserError);
  EXPECT_THROW(read_recorded_times(kRecording, "paged64"), UserError);
}

}  // namespace
}  // namespace kvlab

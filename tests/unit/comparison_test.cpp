#include "kvlab/runtime/comparison.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

// Speeds around `level` that scatter by `spread`, another way for each `phase`.
std::vector<double> speeds(std::size_t blocks, double level, double spread, int phase) {
  std::vector<double> values;
  for (std::size_t i = 0; i < blocks; ++i) {
    values.push_back(level * std::exp(spread * std::sin(1.7 * static_cast<double>(i) + phase)));
  }
  return values;
}

PairedSpeeds pair(std::size_t blocks, double ratio, double spread = 0.01, int phase = 1) {
  return {speeds(blocks, ratio, spread, phase), speeds(blocks, 1.0, spread, 0), 0};
}

Verdict verdict(const PairedSpeeds& arm, const std::optional<PairedSpeeds>& again) {
  return compare_with_control({arm}, again).front().verdict;
}

TEST(Comparison, CallsClearDifferencesByTheirWords) {
  for (const std::size_t blocks : {std::size_t{5}, std::size_t{30}}) {
    const PairedSpeeds again = pair(blocks, 1.0, 0.01, 2);
    EXPECT_EQ(verdict(pair(blocks, 1.1), again), Verdict::faster) << blocks;
    EXPECT_EQ(verdict(pair(blocks, 0.9), again), Verdict::slower) << blocks;
    EXPECT_EQ(verdict(pair(blocks, 1.0), again), Verdict::not_distinguishable) << blocks;
  }
}

TEST(Comparison, ADifferenceTheControlHasFromItselfIsNoise) {
  const PairedSpeeds arm = pair(30, 1.03, 0.002);
  EXPECT_EQ(verdict(arm, std::nullopt), Verdict::faster);
  EXPECT_EQ(verdict(arm, pair(30, 1.0, 0.002, 2)), Verdict::faster);
  const PairedSpeeds restless = pair(30, 1.03, 0.05, 2);
  const Comparison found = compare_with_control({arm}, restless).front();
  EXPECT_EQ(found.verdict, Verdict::not_distinguishable);
  EXPECT_NE(found.reason.find("from itself"), std::string::npos) << found.reason;
}

// A control that came out faster than itself shows as well how much slower an arm may come out.
TEST(Comparison, NoiseReachesAsFarDownAsUp) {
  const PairedSpeeds drifted = pair(30, 1.04, 0.005, 2);
  EXPECT_EQ(verdict(pair(30, 1.01, 0.001), drifted), Verdict::not_distinguishable);
  EXPECT_EQ(verdict(pair(30, 0.98, 0.001), drifted), Verdict::not_distinguishable);
  EXPECT_EQ(verdict(pair(30, 0.9, 0.001), drifted), Verdict::slower);
  EXPECT_EQ(verdict(pair(30, 1.1, 0.001), drifted), Verdict::faster);
  EXPECT_DOUBLE_EQ(noise_reach({1.0, 0.98, 1.01, 0.95, 5}), 1 / 0.98);
  EXPECT_DOUBLE_EQ(noise_reach({}), 1);
}

TEST(Comparison, AFindingIsPossibleInALargeTable) {
  std::vector<PairedSpeeds> family(260, pair(12, 1.0));
  family.push_back(pair(12, 1.5));
  const std::vector<Comparison> found = compare_with_control(family, std::nullopt);
  EXPECT_EQ(found.back().verdict, Verdict::faster) << found.back().reason;
  EXPECT_EQ(found.front().verdict, Verdict::not_distinguishable);
}

TEST(Comparison, ManyComparisonsAskForMore) {
  // Alone its p is below 0.05; beside fifteen others it must be below 0.05 / 16.
  PairedSpeeds weak{{1.02, 1.05, 0.995, 1.04, 1.03}, {1, 1, 1, 1, 1}, 0};
  const Comparison alone = compare_with_control({weak}, std::nullopt).front();
  ASSERT_LT(alone.p.value(), 0.05);
  EXPECT_EQ(alone.verdict, Verdict::faster);
  std::vector<PairedSpeeds> family(15, pair(5, 1.0));
  family.push_back(weak);
  const Comparison beside = compare_with_control(family, std::nullopt).back();
  EXPECT_EQ(beside.p, alone.p);
  EXPECT_NEAR(beside.adjusted_p.value(), 16 * beside.p.value(), 1e-12);
  EXPECT_EQ(beside.verdict, Verdict::not_distinguishable);
}

TEST(Comparison, RefusesAVerdictWhereMostSamplesWereDisturbed) {
  PairedSpeeds arm = pair(10, 1.5);
  arm.contended = 10;
  EXPECT_EQ(verdict(arm, std::nullopt), Verdict::faster) << "half of 20";
  arm.contended = 11;
  EXPECT_EQ(verdict(arm, std::nullopt), Verdict::refused);
  EXPECT_EQ(verdict(pair(1, 1.5), std::nullopt), Verdict::refused) << "one block";
}

TEST(Comparison, TheBootstrapBeginsAtTenBlocks) {
  const PairedSpeeds few = pair(9, 1.02), enough = pair(10, 1.02);
  const RatioInterval t = ratio_t_interval(few.arm, few.control);
  EXPECT_EQ(block_ratio(few.arm, few.control).low, t.low);
  EXPECT_NE(block_ratio(enough.arm, enough.control).low,
            ratio_t_interval(enough.arm, enough.control).low);
}

}  // namespace
}  // namespace kvlab

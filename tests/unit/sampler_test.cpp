#include "kvlab/runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

SamplerConfig sampling(SamplerType type, double temperature = 1, int64_t top_k = 0,
                       double top_p = 1, uint64_t seed = 11) {
  SamplerConfig config;
  config.type = type;
  config.temperature = temperature;
  config.top_k = top_k;
  config.top_p = top_p;
  config.seed = seed;
  return config;
}

// Probabilities 0.5, 0.2, 0.2, 0.1, in another order.
const std::vector<float> kLogits = {std::log(0.2F), std::log(0.5F), std::log(0.1F),
                                    std::log(0.2F)};

std::map<int32_t, double> shares(const SamplerConfig& config, int draws = 20000) {
  Sampler sampler(config, 1);
  std::map<int32_t, double> counted;
  for (int i = 0; i < draws; ++i) counted[sampler.next(0, kLogits)] += 1.0 / draws;
  return counted;
}

TEST(Sampler, GreedyTakesTheFirstOfEqualLogits) {
  Sampler sampler(sampling(SamplerType::greedy), 1);
  EXPECT_EQ(sampler.next(0, std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_EQ(argmax(std::vector<float>{-5}), 0);
  EXPECT_THROW(argmax({}), UserError);
}

TEST(Sampler, DrawsInProportionToProbability) {
  const auto counted = shares(sampling(SamplerType::sample));
  EXPECT_NEAR(counted.at(1), 0.5, 0.015);
  EXPECT_NEAR(counted.at(0), 0.2, 0.015);
  EXPECT_NEAR(counted.at(3), 0.2, 0.015);
  EXPECT_NEAR(counted.at(2), 0.1, 0.015);
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  // At temperature 1/2 probabilities are squared: 25, 4, 4, 1 of 34.
  EXPECT_NEAR(shares(sampling(SamplerType::sample, 0.5)).at(1), 25.0 / 34, 0.015);
  EXPECT_NEAR(shares(sampling(SamplerType::sample, 100)).at(1), 0.25, 0.02);
}

TEST(Sampler, TopKKeepsTheBestAndBreaksTiesDownwards) {
  const auto two = shares(sampling(SamplerType::sample, 1, 2));
  EXPECT_EQ(two.size(), 2U);
  EXPECT_NEAR(two.at(1), 5.0 / 7, 0.015);
  EXPECT_TRUE(two.contains(0)) << "of the equal tokens 0 and 3 the lower is kept";
  EXPECT_EQ(shares(sampling(SamplerType::sample, 1, 1)).size(), 1U);
  EXPECT_EQ(shares(sampling(SamplerType::sample, 1, 99)).size(), 4U);
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
  EXPECT_EQ(shares(sampling(SamplerType::sample, 1, 0, 0.4)).size(), 1U);
  const auto two = shares(sampling(SamplerType::sample, 1, 0, 0.6));
  EXPECT_EQ(two.size(), 2U);
  EXPECT_NEAR(two.at(1), 5.0 / 7, 0.015);
  EXPECT_EQ(shares(sampling(SamplerType::sample, 1, 0, 0.85)).size(), 3U);
  EXPECT_EQ(shares(sampling(SamplerType::sample, 1, 0, 1e-9)).size(), 1U);
}

TEST(Sampler, RowsDoNotDependOnTheirNeighbours) {
  const SamplerConfig config = sampling(SamplerType::sample);
  Sampler alone(config, 1), together(config, 4);
  bool other_row_differs = false;
  for (int i = 0; i < 50; ++i) {
    const int32_t row_one = together.next(1, kLogits);
    const int32_t row_zero = together.next(0, kLogits);
    EXPECT_EQ(row_zero, alone.next(0, kLogits));
    other_row_differs = other_row_differs || row_one != row_zero;
  }
  EXPECT_TRUE(other_row_differs);
}

TEST(Sampler, IsAFunctionOfTheSeed) {
  const auto draw = [](uint64_t seed) {
    Sampler sampler(sampling(SamplerType::sample, 1, 0, 1, seed), 1);
    std::vector<int32_t> drawn;
    for (int i = 0; i < 40; ++i) drawn.push_back(sampler.next(0, kLogits));
    return drawn;
  };
  EXPECT_EQ(draw(5), draw(5));
  EXPECT_NE(draw(5), draw(6));
  EXPECT_NE(draw(5), draw(5 + (uint64_t{1} << 32)));
}

TEST(Sampler, SurvivesLargeLogits) {
  Sampler sampler(sampling(SamplerType::sample), 1);
  EXPECT_EQ(sampler.next(0, std::vector<float>{-3e38F, 3e38F, 0}), 1);
}

}  // namespace
}  // namespace kvlab

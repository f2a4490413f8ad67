#include "kvlab/runtime/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no UserError";
}

// R 4: quantile(c(7, 15, 36, 39, 40, 41), c(.1, .25, .5, .75, .9), type = 7)
TEST(Statistics, QuantilesAgreeWithTypeSevenOfR) {
  const std::vector<double> values{41, 7, 39, 15, 40, 36};
  EXPECT_DOUBLE_EQ(quantile(values, 0.0), 7);
  EXPECT_DOUBLE_EQ(quantile(values, 0.1), 11);
  EXPECT_DOUBLE_EQ(quantile(values, 0.25), 20.25);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 37.5);
  EXPECT_DOUBLE_EQ(quantile(values, 0.75), 39.75);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 40.5);
  EXPECT_DOUBLE_EQ(quantile(values, 1.0), 41);
  EXPECT_DOUBLE_EQ(median(values), 37.5);
  EXPECT_DOUBLE_EQ(interquartile_range(values), 19.5);
}

TEST(Statistics, OneValueIsItsOwnQuantileAndHasNoDeviation) {
  const std::vector<double> one{3.5};
  EXPECT_DOUBLE_EQ(quantile(one, 0.9), 3.5);
  EXPECT_DOUBLE_EQ(interquartile_range(one), 0);
  EXPECT_FALSE(standard_deviation(one).has_value());
}

TEST(Statistics, QuantileOfInfinitiesIsNotNaN) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_DOUBLE_EQ(quantile(std::vector<double>{infinity, infinity}, 0.3), infinity);
}

TEST(Statistics, EmptyInputIsTheCallersMistake) {
  const std::vector<double> none;
  EXPECT_EQ(message_of([&] { quantile(none, 0.5); }),
            "[statistics.quantile] needs at least one value, got none");
  EXPECT_EQ(message_of([&] { geometric_mean(none); }),
            "[statistics.geometric_mean] needs at least one value, got none");
  EXPECT_THROW(mean(none), UserError);
  EXPECT_THROW(standard_deviation(none), UserError);
  EXPECT_THROW(ratio_t_interval(none, none), UserError);
}

TEST(Statistics, RefusesValuesWithoutAMeaning) {
  EXPECT_THROW(quantile(std::vector<double>{1, kNaN}, 0.5), UserError);
  EXPECT_THROW(quantile(std::vector<double>{1}, 1.01), UserError);
  EXPECT_THROW(quantile(std::vector<double>{1}, kNaN), UserError);
  EXPECT_THROW(geometric_mean(std::vector<double>{1, 0}), UserError);
  EXPECT_THROW(student_t_quantile(1.0, 4), UserError);
  EXPECT_THROW(student_t_quantile(0.9, 0), UserError);
  EXPECT_EQ(message_of([] {
              ratio_t_interval(std::vector<double>{1, 2}, std::vector<double>{1});
            }),
            "[statistics.ratio_t_interval] both arms need one value per block: got 2, wanted "
            "exactly 1");
}

TEST(Statistics, GeometricMeanMultiplies) {
  EXPECT_NEAR(geometric_mean(std::vector<double>{1, 10, 100}), 10, 1e-12);
  EXPECT_NEAR(geometric_mean(std::vector<double>{1e-200, 1e200}), 1, 1e-12);
}

TEST(Statistics, StandardDeviationDividesByOneLess) {
  EXPECT_NEAR(*standard_deviation(std::vector<double>{2, 4, 4, 4, 5, 5, 7, 9}),
              2.1380899352993950, 1e-14);
}

// Values from an arbitrary-precision library at 30 digits.
TEST(Statistics, StudentQuantilesAgreeWithReferenceValues) {
  EXPECT_NEAR(student_t_quantile(0.975, 1), 12.706204736174705, 1e-11);
  EXPECT_NEAR(student_t_quantile(0.975, 2), 4.3026527297494639, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.975, 4), 2.7764451051977944, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.975, 9), 2.2621571627982055, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.995, 9), 3.2498355415921263, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.975, 30), 2.0422724563012373, 1e-12);
  EXPECT_NEAR(student_t_quantile(0.95, 120), 1.6576508993552356, 1e-11);
  EXPECT_NEAR(student_t_quantile(0.975, 1e6), 1.959966356814107, 1e-9);
  EXPECT_DOUBLE_EQ(student_t_quantile(0.5, 3), 0);
}

// One and two degrees of freedom have closed forms.
TEST(Statistics, StudentProbabilitiesAgreeWithClosedForms) {
  const double pi = std::acos(-1.0);
  for (const double t : {-30.0, -2.5, -1.0, -1e-6, 0.0, 0.3, 1.0, 4.0, 200.0}) {
    EXPECT_NEAR(student_t_probability(t, 1), 0.5 + std::atan(t) / pi, 1e-14) << t;
    EXPECT_NEAR(student_t_probability(t, 2), 0.5 + t / (2 * std::sqrt(2 + t * t)), 1e-14) << t;
  }
}

TEST(Statistics, StudentQuantileInvertsTheProbability) {
  constexpr unsigned kSeed = 20240517;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  std::mt19937 generator(kSeed);
  std::uniform_real_distribution<double> probabilities(1e-4, 1 - 1e-4);
  std::uniform_real_distribution<double> degrees(0.5, 300);
  for (int i = 0; i < 500; ++i) {
    const double probability = probabilities(generator);
    const double freedom = degrees(generator);
    const double t = student_t_quantile(probability, freedom);
    EXPECT_NEAR(student_t_probability(t, freedom), probability, 1e-11) << freedom;
    EXPECT_NEAR(student_t_quantile(1 - probability, freedom), -t, 1e-6 * (1 + std::abs(t)));
  }
}

// Logarithms of the ratios are 0.1, 0.2, 0.3: mean 0.2, deviation 0.1, t(0.975, 2) = 4.30265.
TEST(Statistics, RatioIntervalIsTheIntervalOfTheLogarithms) {
  const std::vector<double> numerator{std::exp(0.1) * 5, std::exp(0.2) * 7, std::exp(0.3) * 2};
  const std::vector<double> denominator{5, 7, 2};
  const RatioInterval interval = ratio_t_interval(numerator, denominator);
  const double reach = 4.3026527297494639 * 0.1 / std::sqrt(3.0);
  EXPECT_EQ(interval.n, 3u);
  EXPECT_DOUBLE_EQ(interval.confidence, 0.95);
  EXPECT_NEAR(interval.ratio, std::exp(0.2), 1e-12);
  EXPECT_NEAR(*interval.low, std::exp(0.2 - reach), 1e-12);
  EXPECT_NEAR(*interval.high, std::exp(0.2 + reach), 1e-12);
  EXPECT_FALSE(interval.excludes(1.0));
  EXPECT_TRUE(interval.excludes(2.0));

  const RatioInterval swapped = ratio_t_interval(denominator, numerator);
  EXPECT_NEAR(swapped.ratio * interval.ratio, 1, 1e-12);
  EXPECT_NEAR(*swapped.low * *interval.high, 1, 1e-12);
}

TEST(Statistics, OneBlockGivesARatioAndNoVerdict) {
  const RatioInterval interval =
      ratio_t_interval(std::vector<double>{30}, std::vector<double>{10});
  EXPECT_NEAR(interval.ratio, 3, 1e-12);
  EXPECT_FALSE(interval.low.has_value());
  EXPECT_FALSE(interval.high.has_value());
  EXPECT_FALSE(interval.excludes(1.0));
}

// The nominal coverage of the interval, on log-normal noise of 3 %.
TEST(Statistics, RatioIntervalCoversTheTruthAsOftenAsPromised) {
  constexpr unsigned kSeed = 7;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  std::mt19937 generator(kSeed);
  std::lognormal_distribution<double> noise(0, 0.03);
  constexpr int kRuns = 4000;
  int covered = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::vector<double> numerator, denominator;
    for (int block = 0; block < 5; ++block) {
      numerator.push_back(2 * noise(generator));
      denominator.push_back(noise(generator));
    }
    if (!ratio_t_interval(numerator, denominator).excludes(2.0)) ++covered;
  }
  // Five standard deviations of a binomial count around 95 %.
  EXPECT_NEAR(static_cast<double>(covered) / kRuns, 0.95, 0.0175);
}

}  // namespace
}  // namespace kvlab

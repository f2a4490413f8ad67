#include "kvlab/runtime/bootstrap.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

const std::vector<double> kFirst{1.2, 3.4, 0.5, 8.9, 2.2, 4.1, 0.9, 15.3,
                                 2.8, 1.7, 6.0, 0.7, 3.1, 2.5, 11.2};
const std::vector<double> kSecond{1.0, 3.0, 0.8, 7.0, 2.5, 3.0, 1.0, 12.0,
                                  2.0, 1.5, 5.0, 0.9, 3.3, 2.0, 9.0};

double mean_of_first(std::span<const std::size_t> items) {
  double sum = 0;
  for (const std::size_t item : items) sum += kFirst[item];
  return sum / static_cast<double>(items.size());
}

BootstrapOptions with(BootstrapMethod method) {
  BootstrapOptions options;
  options.method = method;
  options.draws = 40'000;
  return options;
}

// SciPy 1.17.1: stats.bootstrap((first,), np.mean, method='percentile' and 'BCa'), averaged over
// eight seeds of 200,000 draws, whose standard deviation is below 0.02.
TEST(Bootstrap, IntervalsOfASkewedMeanAgreeWithSciPy) {
  const BootstrapInterval plain = bootstrap(15, mean_of_first, with(BootstrapMethod::percentile));
  EXPECT_DOUBLE_EQ(plain.estimate, 4.3);
  EXPECT_EQ(plain.n, 15u);
  EXPECT_NEAR(plain.low.value(), 2.4058, 0.03);
  EXPECT_NEAR(plain.high.value(), 6.5825, 0.05);
  const BootstrapInterval corrected = bootstrap(15, mean_of_first, with(BootstrapMethod::bca));
  EXPECT_NEAR(corrected.low.value(), 2.6600, 0.04);
  EXPECT_NEAR(corrected.high.value(), 7.1210, 0.08);
}

// SciPy 1.17.1: stats.bootstrap with method='BCa' and 400,000 draws of the log-ratios' mean.
TEST(Bootstrap, RatiosAgreeWithSciPy) {
  const RatioInterval ratio = ratio_bootstrap(kFirst, kSecond, with(BootstrapMethod::bca));
  EXPECT_NEAR(ratio.ratio, 1.081245486806794, 1e-12);
  EXPECT_NEAR(ratio.low.value(), 0.9418, 0.006);
  EXPECT_NEAR(ratio.high.value(), 1.1877, 0.006);
  EXPECT_FALSE(ratio.excludes());
}

// SciPy 1.17.1, as above, of first - second.
TEST(Bootstrap, MeanDifferencesAgreeWithSciPy) {
  const BootstrapInterval change =
      mean_difference_bootstrap(kFirst, kSecond, with(BootstrapMethod::bca));
  EXPECT_NEAR(change.estimate, 0.7, 1e-12);
  EXPECT_NEAR(change.low.value(), 0.2800, 0.02);
  EXPECT_NEAR(change.high.value(), 1.3467, 0.04);
  EXPECT_LT(change.p.value(), 0.01) << "hardly a draw falls to 0";
}

// SciPy 1.17.1: paired=True, lambda x, y: x.sum() / y.sum(), method='BCa'.
TEST(Bootstrap, RatiosOfSumsAreDrawnByItem) {
  const BootstrapInterval ratio =
      ratio_of_sums_bootstrap(kFirst, kSecond, with(BootstrapMethod::bca));
  EXPECT_NEAR(ratio.estimate, 64.5 / 54.0, 1e-12);
  EXPECT_NEAR(ratio.low.value(), 1.0995, 0.005);
  EXPECT_NEAR(ratio.high.value(), 1.2500, 0.005);
}

TEST(Bootstrap, RatiosOfSumsAreTestedAgainstANullValue) {
  const auto p = [](double null_value) {
    return ratio_of_sums_bootstrap(kFirst, kSecond, {}, null_value).p.value();
  };
  EXPECT_LT(p(1.0), 0.01) << "the interval is 1.10 to 1.25";
  EXPECT_GT(p(64.5 / 54.0), 0.5);
  EXPECT_FALSE(ratio_of_sums_bootstrap(kFirst, kSecond).p.has_value());
}

// Student's sleep data (1908) as R's t.test(extra ~ group, paired = TRUE) gives it: t = 4.0621 on 9
// degrees of freedom, p = 0.002833, interval 0.7001142 to 2.4598858.
TEST(Bootstrap, FewItemsGetTheTIntervalThatRGives) {
  const std::vector<double> gained{1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4};
  const std::vector<double> once(10, 1.0);
  const BootstrapInterval mean = ratio_of_sums_t_interval(gained, once, 0.95, 0.0);
  EXPECT_NEAR(mean.estimate, 1.58, 1e-12);
  EXPECT_NEAR(mean.low.value(), 0.7001142, 1e-6);
  EXPECT_NEAR(mean.high.value(), 2.4598858, 1e-6);
  EXPECT_NEAR(mean.p.value(), 0.002833, 1e-6);
  // Documents of four tokens each: the same data per token.
  std::vector<double> sums = gained, tokens(10, 4.0);
  for (double& sum : sums) sum *= 4;
  const BootstrapInterval scaled = ratio_of_sums_t_interval(sums, tokens, 0.95, 0.0);
  EXPECT_NEAR(scaled.high.value(), mean.high.value(), 1e-12);
  EXPECT_NEAR(scaled.p.value(), mean.p.value(), 1e-12);
}

// Ratio 2; what is left beside it is 0, 2 and -2, so the error is 2 sqrt(3) / 6; t is 4.302653 on two
// degrees of freedom.
TEST(Bootstrap, ALongItemCountsForMoreInTheTInterval) {
  const std::vector<double> sums{2, 6, 4}, tokens{1, 2, 3};
  const BootstrapInterval ratio = ratio_of_sums_t_interval(sums, tokens, 0.95, 2.0);
  EXPECT_DOUBLE_EQ(ratio.estimate, 2.0);
  EXPECT_NEAR(ratio.high.value(), 2 + 4.302653 * 0.5773503, 1e-5);
  EXPECT_NEAR(ratio.low.value(), 2 - 4.302653 * 0.5773503, 1e-5);
  EXPECT_DOUBLE_EQ(ratio.p.value(), 1.0);
  EXPECT_TRUE(ratio.excludes(5));
  EXPECT_FALSE(ratio.excludes(4));
}

TEST(Bootstrap, TheNumberOfItemsChoosesTheInterval) {
  const std::span<const double> first(kFirst), second(kSecond);
  const auto high = [](const BootstrapInterval& interval) { return interval.high.value(); };
  EXPECT_EQ(high(ratio_of_sums_interval(first.first(9), second.first(9))),
            high(ratio_of_sums_t_interval(first.first(9), second.first(9))));
  EXPECT_EQ(high(ratio_of_sums_interval(first.first(10), second.first(10))),
            high(ratio_of_sums_bootstrap(first.first(10), second.first(10))));
}

TEST(Bootstrap, ThousandsOfItemsTakeTenthsOfASecond) {
  std::vector<double> sums, tokens;
  for (int i = 0; i < 2000; ++i) {
    sums.push_back(std::sin(i) + 0.1);
    tokens.push_back(1 + i % 7);
  }
  const auto start = std::chrono::steady_clock::now();
  const BootstrapInterval ratio = ratio_of_sums_interval(sums, tokens, {}, 0.0);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  EXPECT_TRUE(ratio.excludes(0));
  RecordProperty("seconds", std::to_string(took.count()));
  EXPECT_LT(took.count(), 10) << "a report asks for dozens of these";
}

// The mean of the middle half is a 25 % trimmed mean: scipy.stats.trim_mean(log-ratios, 0.25), with
// its percentile interval (SciPy 1.17.1).
TEST(Bootstrap, TheMiddleHalfAgreesWithSciPysTrimmedMean) {
  const RobustRatio found = midmean_ratio_bootstrap(kFirst, kSecond, with(BootstrapMethod::bca));
  EXPECT_NEAR(found.interval.ratio, 1.1336600474086262, 1e-12);
  EXPECT_NEAR(found.interval.low.value(), 0.9795, 0.006);
  EXPECT_NEAR(found.interval.high.value(), 1.2468, 0.006);
  EXPECT_GT(found.p.value(), 0.05);
}

TEST(Bootstrap, ADisturbedBlockDoesNotMoveTheMiddleHalf) {
  std::vector<double> arm(20, 1.05), control(20, 1.0);
  for (std::size_t i = 0; i < arm.size(); ++i) arm[i] += 0.001 * static_cast<double>(i % 3);
  const RobustRatio before = midmean_ratio_bootstrap(arm, control);
  arm[4] = 0.2;
  const RobustRatio after = midmean_ratio_bootstrap(arm, control);
  EXPECT_NEAR(after.interval.ratio, before.interval.ratio, 0.001);
  EXPECT_TRUE(after.interval.excludes());
  EXPECT_LT(after.p.value(), 0.001);
}

TEST(Bootstrap, TheSeedAloneDecidesTheDraws) {
  BootstrapOptions options;
  options.draws = 500;
  const auto low = [&] { return bootstrap(15, mean_of_first, options).low.value(); };
  const double once = low();
  EXPECT_EQ(low(), once);
  options.seed = 2;
  EXPECT_NE(low(), once);
}

// The generator is the standard's, whose 10,000th value the standard states; an index is its value
// modulo n.
TEST(Bootstrap, DrawsTheSameItemsOnEveryMachine) {
  std::vector<std::size_t> drawn;
  BootstrapOptions options;
  options.draws = 1;
  options.method = BootstrapMethod::percentile;
  bootstrap(
      10,
      [&](std::span<const std::size_t> items) {
        drawn.assign(items.begin(), items.end());
        return 1.0;
      },
      options);
  EXPECT_EQ(drawn, (std::vector<std::size_t>{8, 2, 0, 6, 4, 9, 8, 5, 8, 4}));
}

TEST(Bootstrap, OneItemHasNoIntervalAndEqualItemsHaveNoWidth) {
  const std::vector<double> one{2.0}, half{1.0};
  EXPECT_FALSE(ratio_bootstrap(one, half).low.has_value());
  EXPECT_FALSE(midmean_ratio_bootstrap(one, half).p.has_value());
  const std::vector<double> same{3, 3, 3, 3}, other{2, 2, 2, 2};
  const RatioInterval ratio = ratio_bootstrap(same, other);
  EXPECT_DOUBLE_EQ(ratio.low.value(), 1.5);
  EXPECT_DOUBLE_EQ(ratio.high.value(), 1.5);
}

TEST(Bootstrap, RefusesWhatHasNoAnswer) {
  const std::vector<double> two{1, 2}, one{1}, zero{0, 1}, nan{NAN, 1};
  EXPECT_THROW(ratio_bootstrap(two, one), UserError);
  EXPECT_THROW(ratio_bootstrap(zero, two), UserError);
  EXPECT_THROW(mean_difference_bootstrap(nan, two), UserError);
  EXPECT_THROW(ratio_of_sums_bootstrap(two, zero), UserError);
  EXPECT_THROW(ratio_of_sums_bootstrap({}, {}), UserError);
  EXPECT_THROW(ratio_of_sums_t_interval(two, zero), UserError);
  EXPECT_THROW(ratio_of_sums_t_interval(two, two, 1), UserError);
  EXPECT_FALSE(ratio_of_sums_t_interval(one, one, 0.95, 0.0).p.has_value());
  BootstrapOptions none;
  none.draws = 0;
  EXPECT_THROW(ratio_bootstrap(two, two, none), UserError);
}

// SciPy 1.17.1: stats.norm.ppf and cdf.
TEST(Bootstrap, TheNormalDistributionAgreesWithSciPy) {
  EXPECT_NEAR(normal_quantile(0.975), 1.959963984540054, 1e-13);
  EXPECT_NEAR(normal_quantile(1e-6), -4.753424308822899, 1e-11);
  EXPECT_NEAR(normal_probability(-1.5), 0.06680720126885807, 1e-15);
  EXPECT_THROW(normal_quantile(1), UserError);
}

}  // namespace
}  // namespace kvlab

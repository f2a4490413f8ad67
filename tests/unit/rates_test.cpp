#include "kvlab/runtime/rates.h"

#include <gtest/gtest.h>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

// Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3; more
// digits from SciPy 1.17.1, stats.binomtest(k, n).proportion_ci(0.95, 'wilson').
TEST(Rates, WilsonAgreesWithNewcombesExamples) {
  const auto expect = [](int64_t successes, int64_t trials, double low, double high) {
    const Rate found = wilson_interval(successes, trials);
    EXPECT_NEAR(found.low, low, 1e-12) << successes << "/" << trials;
    EXPECT_NEAR(found.high, high, 1e-12) << successes << "/" << trials;
    EXPECT_DOUBLE_EQ(found.rate, static_cast<double>(successes) / static_cast<double>(trials));
    EXPECT_EQ(found.n, trials);
  };
  expect(81, 263, 0.2552885198782742, 0.36620957698280004);
  expect(15, 148, 0.06238639953073629, 0.16048724172330803);
  expect(0, 20, 0, 0.16112515805281935);
  expect(1, 29, 0.006113214292762667, 0.17175521879320282);
  expect(29, 29, 0.8830302015002592, 1);
}

TEST(Rates, RefusesWhatIsNoRate) {
  EXPECT_THROW(wilson_interval(0, 0), UserError);
  EXPECT_THROW(wilson_interval(3, 2), UserError);
  EXPECT_THROW(wilson_interval(-1, 2), UserError);
  EXPECT_THROW(wilson_interval(1, 2, 1), UserError);
}

}  // namespace
}  // namespace kvlab

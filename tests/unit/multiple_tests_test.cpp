#include "kvlab/runtime/multiple_tests.h"

#include <gtest/gtest.h>

#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

void expect_holm(const std::vector<double>& p_values, const std::vector<double>& wanted) {
  const std::vector<double> found = holm_adjusted(p_values);
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-12) << i;
}

// R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") and of the second list. Steps by hand:
// 5 x 0.01, 4 x 0.02, 3 x 0.03, then never less than the step before.
TEST(MultipleTests, HolmAgreesWithRsPAdjust) {
  expect_holm({0.01, 0.02, 0.03, 0.04, 0.05}, {0.05, 0.08, 0.09, 0.09, 0.09});
  expect_holm({0.04, 0.001, 0.6, 0.01}, {0.08, 0.004, 0.6, 0.03});
  expect_holm({0.9, 0.8}, {1, 1});
  expect_holm({0.03}, {0.03});
  expect_holm({}, {});
}

TEST(MultipleTests, RefusesWhatIsNoProbability) {
  EXPECT_THROW(holm_adjusted(std::vector<double>{0.1, 1.5}), UserError);
  EXPECT_THROW(holm_adjusted(std::vector<double>{-0.1}), UserError);
}

// SciPy 1.17.1: stats.ttest_1samp(np.log(a) - np.log(b), 0).pvalue
TEST(MultipleTests, TheTestOfLogRatiosAgreesWithSciPy) {
  const std::vector<double> a{10.2, 9.8, 11.5, 10.9, 10.1, 12.0, 9.9, 10.4};
  const std::vector<double> b{9.7, 9.9, 10.8, 10.2, 10.0, 11.1, 9.8, 9.9};
  EXPECT_NEAR(log_ratio_t_test(a, b).value(), 0.009976390653232777, 1e-12);
  EXPECT_NEAR(log_ratio_t_test(b, a).value(), 0.009976390653232777, 1e-12);
  EXPECT_FALSE(log_ratio_t_test(std::vector<double>{1}, std::vector<double>{2}).has_value());
}

}  // namespace
}  // namespace kvlab

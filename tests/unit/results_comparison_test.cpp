#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kvlab/core/error.h"
#include "kvlab/results/run_comparison.h"
#include "tests/fixtures/hand_made_run.h"
#include "tests/fixtures/model_file_writer.h"

namespace kvlab {
namespace {

using ::testing::ElementsAre;
using testing::HandMadeRun;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

class ResultsComparison : public ::testing::Test {
 protected:
  RunComparison compare(const HandMadeRun& a, const HandMadeRun& b,
                        const CompareOptions& options = {}) const {
    a.write(folder_.path() / "a");
    b.write(folder_.path() / "b");
    return compare_runs(read_run((folder_.path() / "a").string()),
                        read_run((folder_.path() / "b").string()), options);
  }

  std::string refusal(const HandMadeRun& a, const HandMadeRun& b,
                      const CompareOptions& options = {}) const {
    try {
      compare(a, b, options);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }

  static CompareOptions with_rule(const std::string& rule) {
    CompareOptions options;
    options.rule = parse_fail_rule(rule);
    return options;
  }

  // One arm with one metric that no clock gave.
  static HandMadeRun with_value(HandMadeRun::Json value, const std::string& better = "lower",
                                const std::string& unit = "B") {
    HandMadeRun made;
    made.add_metric("paged", "payload", std::move(value), unit, better);
    return made;
  }

  static HandMadeRun with_gaps(std::vector<int64_t> gaps) {
    HandMadeRun made;
    made.add_tpot("paged", std::move(gaps));
    return made;
  }

  TemporaryFolder folder_;
};

std::string rule_refusal(const std::string& text) {
  try {
    parse_fail_rule(text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_F(ResultsComparison, RulesAreReadAsWritten) {
  EXPECT_DOUBLE_EQ(parse_fail_rule(">5%").limit, 1.05);
  EXPECT_TRUE(parse_fail_rule(">5%").above);
  EXPECT_DOUBLE_EQ(parse_fail_rule("<-3%").limit, 0.97);
  EXPECT_FALSE(parse_fail_rule("<-3%").above);
  EXPECT_DOUBLE_EQ(parse_fail_rule("> 1.05 x").limit, 1.05);
  EXPECT_DOUBLE_EQ(parse_fail_rule(">+0.5%").limit, 1.005);
  for (const char* text : {"", "5%", ">", ">%", ">5", ">x", ">=5%", ">5%%", ">five%", ">nan%",
                           ">inf%", ">1e3%", ">5 % of A", "<--3%", ">+-3%"}) {
    EXPECT_THAT(rule_refusal(text), HasSubstr("is no rule; write > or <")) << text;
  }
  EXPECT_THAT(rule_refusal("<-100%"), HasSubstr("the limit 0"));
  EXPECT_THAT(rule_refusal(">-2x"), HasSubstr("the limit -2"));
}

TEST_F(ResultsComparison, FewBlocksHaveWelchsInterval) {
  // Logarithms ln 2 apart, so both standard errors are ln 2 / sqrt(3) and there are 4 degrees of
  // freedom: t(0.975, 4) = 2.776445.
  const ComparedRatio result = unpaired_ratio({1, 2, 4}, {2, 4, 8}, 0);
  const double half = 2.776445 * std::log(2.0) * std::sqrt(2.0 / 3);
  EXPECT_NEAR(result.ratio, 2, 1e-12);
  EXPECT_NEAR(*result.low, 2 * std::exp(-half), 1e-6);
  EXPECT_NEAR(*result.high, 2 * std::exp(half), 1e-5);
  EXPECT_FALSE(unpaired_ratio({1}, {2, 3}, 0).low.has_value());
  EXPECT_EQ(unpaired_ratio({2, 2}, {2, 2}, 0).low, 1.0);
  EXPECT_THROW(unpaired_ratio({}, {1}, 0), UserError);
  EXPECT_THROW(unpaired_ratio({1, 0}, {1, 1}, 0), UserError);
}

TEST_F(ResultsComparison, TheBootstrapRepeatsFromItsSeed) {
  std::vector<double> a, b;
  for (const int64_t gap : testing::noisy_gaps(1e6, 0.1, 12, 1)) a.push_back(double(gap));
  for (const int64_t gap : testing::noisy_gaps(1e6, 0.1, 12, 2)) b.push_back(double(gap));
  const ComparedRatio once = unpaired_ratio(a, b, 5);
  EXPECT_EQ(once.low, unpaired_ratio(a, b, 5).low);
  EXPECT_NE(once.low, unpaired_ratio(a, b, 6).low);
  EXPECT_NEAR(*once.low, *unpaired_ratio(a, b, 6).low, 0.01);
}

TEST_F(ResultsComparison, IntervalsCoverTheTrueRatioAsOftenAsTheySay) {
  constexpr uint64_t kSeed = 20260611;
  constexpr int kRuns = 1000;
  constexpr double kRatio = 1.05;
  for (const int blocks : {5, 20}) {
    int covered = 0;
    for (int run = 0; run < kRuns; ++run) {
      const auto values = [&](double middle, uint64_t side) {
        std::vector<double> all;
        const uint64_t seed = kSeed + static_cast<uint64_t>(run) * 2 + side;
        for (const int64_t gap : testing::noisy_gaps(middle, 0.05, blocks, seed)) {
          all.push_back(static_cast<double>(gap));
        }
        return all;
      };
      const ComparedRatio found =
          unpaired_ratio(values(1e9, 0), values(1e9 * kRatio, 1), kSeed, 400);
      covered += *found.low <= kRatio && kRatio <= *found.high ? 1 : 0;
    }
    // Three standard errors of a share of 95 % are 2 %; percentile intervals of 20 blocks are a
    // little narrow.
    EXPECT_GE(covered, kRuns * 91 / 100) << blocks << " blocks, seed " << kSeed;
    EXPECT_LE(covered, kRuns * 98 / 100) << blocks << " blocks, seed " << kSeed;
  }
}

TEST_F(ResultsComparison, ASlowdownIsFoundInTheSamples) {
  const HandMadeRun a = with_gaps(testing::noisy_gaps(1e6, 0.02, 12, 1));
  const HandMadeRun b = with_gaps(testing::noisy_gaps(1.2e6, 0.02, 12, 2));
  const RunComparison found = compare(a, b, with_rule(">5%"));
  ASSERT_EQ(found.metrics.size(), 1u);
  const ComparedMetric& row = found.metrics[0];
  EXPECT_TRUE(row.from_samples);
  EXPECT_EQ(row.n_a, 12);
  EXPECT_NEAR(row.ratio->ratio, 1.2, 0.03);
  EXPECT_GT(*row.ratio->low, 1.15);
  EXPECT_EQ(row.verdict, ChangeVerdict::worse);
  EXPECT_TRUE(row.fails);
  EXPECT_TRUE(found.fails());
  EXPECT_EQ(row.group, "prompt_length=16, batch=1");
  // The other way round it is an improvement, which only a rule for it calls a failure.
  const RunComparison back = compare(b, a, with_rule(">5%"));
  EXPECT_EQ(back.metrics[0].verdict, ChangeVerdict::better);
  EXPECT_FALSE(back.fails());
  EXPECT_TRUE(compare(b, a, with_rule("<-5%")).fails());
}

TEST_F(ResultsComparison, TheRuleLooksAtTheIntervalsNearEndUnlessStrict) {
  const HandMadeRun a = with_gaps({900, 1000, 1100});
  const HandMadeRun b = with_gaps({990, 1100, 1210});
  CompareOptions options = with_rule(">5%");
  const RunComparison found = compare(a, b, options);
  EXPECT_NEAR(found.metrics[0].ratio->ratio, 1.1, 1e-9);
  EXPECT_LT(*found.metrics[0].ratio->low, 1.05);
  EXPECT_EQ(found.metrics[0].verdict, ChangeVerdict::not_distinguishable);
  EXPECT_FALSE(found.fails());
  options.strict = true;
  EXPECT_TRUE(compare(a, b, options).fails());
}

TEST_F(ResultsComparison, DisturbedTimesAreRefusedAndFailOnlyAStrictRule) {
  const HandMadeRun a = with_gaps(testing::noisy_gaps(1e6, 0.02, 12, 1));
  HandMadeRun b = with_gaps(testing::noisy_gaps(1.2e6, 0.02, 12, 2));
  const auto disturb = [&](size_t count) {
    for (size_t i = 0; i < b.samples.size(); ++i) {
      b.samples[i]["flags"] = {{"contended", i < count}, {"suspended", false}};
    }
  };
  CompareOptions options = with_rule(">5%");
  disturb(6);
  EXPECT_EQ(compare(a, b, options).metrics[0].verdict, ChangeVerdict::worse);
  EXPECT_TRUE(compare(a, b, options).fails());
  disturb(7);
  const RunComparison found = compare(a, b, options);
  EXPECT_EQ(found.metrics[0].verdict, ChangeVerdict::refused);
  EXPECT_EQ(found.refused(), 1);
  EXPECT_EQ(found.tests(), 0);
  EXPECT_FALSE(found.fails());
  EXPECT_EQ(compare(b, a, options).metrics[0].verdict, ChangeVerdict::refused);
  options.strict = true;
  EXPECT_TRUE(compare(a, b, options).fails());
  // What no clock gave is the same however busy the machine is.
  HandMadeRun small = a, large = b;
  small.add_metric("paged", "payload", 100, "B", "lower");
  large.add_metric("paged", "payload", 200, "B", "lower");
  EXPECT_EQ(compare(small, large).metrics[1].verdict, ChangeVerdict::worse);
}

TEST_F(ResultsComparison, OneOfManyRowsThatChanceCanExplainIsNoFinding) {
  // One row alone excludes 1 by little.
  const std::vector<int64_t> first = {980, 1000, 1020, 1010}, second = {1030, 1060, 1075, 1040};
  HandMadeRun a = with_gaps(first), b = with_gaps(second);
  const RunComparison alone = compare(a, b, with_rule(">0.5%"));
  EXPECT_EQ(alone.metrics[0].verdict, ChangeVerdict::worse);
  EXPECT_EQ(alone.tests(), 1);
  EXPECT_EQ(alone.metrics[0].p, alone.metrics[0].p_adjusted);
  EXPECT_TRUE(alone.fails());
  for (int i = 0; i < 19; ++i) {
    const std::string arm = "arm" + std::to_string(i);
    a.add_tpot(arm, first);
    b.add_tpot(arm, {990, 1005, 1012, 1001});
  }
  const RunComparison found = compare(a, b, with_rule(">0.5%"));
  EXPECT_EQ(found.tests(), 20);
  EXPECT_NEAR(*found.metrics[0].p_adjusted, 20 * *found.metrics[0].p, 1e-12);
  EXPECT_GT(*found.metrics[0].ratio->low, 1.005);
  EXPECT_EQ(found.metrics[0].verdict, ChangeVerdict::not_distinguishable);
  EXPECT_FALSE(found.fails());
}

TEST_F(ResultsComparison, WelchsTestAgreesWithItsInterval) {
  const std::vector<double> a = {1, 2, 4}, b = {5, 9, 21};
  const double p = *unpaired_t_test(a, b);
  EXPECT_EQ(p < 0.05, *unpaired_ratio(a, b, 0).low > 1);
  // Means ln 2 apart and a standard error of ln 2 * sqrt(2/3): t is 1.2247 with 4 degrees.
  EXPECT_NEAR(*unpaired_t_test({1, 2, 4}, {2, 4, 8}), 0.2879, 1e-4);
  EXPECT_EQ(unpaired_t_test({2, 2}, {2, 2}), 1.0);
  EXPECT_EQ(unpaired_t_test({2, 2}, {3, 3}), 0.0);
  EXPECT_FALSE(unpaired_t_test({2}, {3, 3}).has_value());
}

TEST_F(ResultsComparison, TheSecondControlIsMarkedAndNoRuleJudgesIt) {
  HandMadeRun a = with_gaps({1000, 1000, 1000}), b = a;
  a.add_tpot("paged_again", {1000, 1001, 1002});
  b.add_tpot("paged_again", {2000, 2001, 2002});
  a.add_tpot("once_again", {1000, 1001, 1002});
  b.add_tpot("once_again", {1000, 1001, 1002});
  CompareOptions options = with_rule(">5%");
  for (const bool strict : {false, true}) {
    options.strict = strict;
    const RunComparison found = compare(a, b, options);
    EXPECT_TRUE(found.metrics[1].second_control);
    EXPECT_FALSE(found.metrics[2].second_control) << "an arm of that name, and no arm 'once'";
    EXPECT_EQ(found.tests(), 2);
    EXPECT_FALSE(found.fails());
  }
}

TEST_F(ResultsComparison, ABlockInWhichAnArmStoodStillIsLeftOutForAll) {
  // The summary leaves out the block in which the other arm stood still.
  HandMadeRun made = with_gaps({1000, 1100, 1200});
  HandMadeRun::Json still = made.samples[0];
  still["rep"] = 3;
  still["token_ns"] = {900, 900};
  made.samples.push_back(still);
  still["arm"] = "ring";
  still["flags"] = {{"contended", true}, {"suspended", true}};
  made.samples.push_back(still);
  const RunComparison found = compare(made, made);
  EXPECT_TRUE(found.metrics[0].from_samples);
  EXPECT_EQ(found.metrics[0].n_a, 3);
  EXPECT_TRUE(found.metrics[0].ratio->low.has_value());
}

TEST_F(ResultsComparison, SamplesThatGiveAnotherNumberThanTheSummaryAreNotUsed) {
  HandMadeRun a = with_gaps({900, 1000, 1100});
  a.summary["metrics"][0]["value"] = 0.5;
  const RunComparison found = compare(a, with_gaps({990, 1100, 1210}));
  EXPECT_FALSE(found.metrics[0].from_samples);
  EXPECT_EQ(found.metrics[0].verdict, ChangeVerdict::no_interval);
  EXPECT_EQ(found.metrics[0].a, 0.5);
}

TEST_F(ResultsComparison, FirstTokensAndSpeedComeFromSamplesToo) {
  HandMadeRun made = with_gaps({1000, 2000, 3000});
  made.add_metric("paged", "ttft", 0.001, "ms", "lower", {{"batch", "1"}});
  // 3 tokens in 1000 + 2 * 2000 ns, the middle one of three blocks.
  made.add_metric("paged", "tokens_per_s", 3e9 / 5000, "tokens/s", "higher", {{"batch", "1"}});
  made.add_metric("paged", "tokens_per_s", 3e9 / 5000, "tokens/s", "higher", {{"batch", "2"}});
  const RunComparison found = compare(made, made);
  ASSERT_EQ(found.metrics.size(), 4u);
  EXPECT_TRUE(found.metrics[1].from_samples);
  EXPECT_TRUE(found.metrics[2].from_samples);
  EXPECT_FALSE(found.metrics[3].from_samples) << "no sample of batch 2";
  for (const ComparedMetric& row : found.metrics) EXPECT_EQ(row.verdict, ChangeVerdict::equal);
}

TEST_F(ResultsComparison, NumbersWithoutAClockNeedNoInterval) {
  EXPECT_EQ(compare(with_value(100), with_value(110)).metrics[0].verdict, ChangeVerdict::worse);
  EXPECT_EQ(compare(with_value(100), with_value(90)).metrics[0].verdict, ChangeVerdict::better);
  EXPECT_EQ(compare(with_value(100, "higher"), with_value(90, "higher")).metrics[0].verdict,
            ChangeVerdict::worse);
  EXPECT_EQ(compare(with_value(100, "none"), with_value(90, "none")).metrics[0].verdict,
            ChangeVerdict::smaller);
  EXPECT_EQ(compare(with_value(0), with_value(0)).metrics[0].verdict, ChangeVerdict::equal);
  EXPECT_EQ(compare(with_value(1, "lower", "ms"), with_value(2, "lower", "ms")).metrics[0].verdict,
            ChangeVerdict::no_interval);
  HandMadeRun timed = with_value(2);
  timed.summary["metrics"][0]["timed"] = true;
  EXPECT_EQ(compare(with_value(1), timed).metrics[0].verdict, ChangeVerdict::no_interval);
}

TEST_F(ResultsComparison, WhatCannotBeJudgedFailsARule) {
  for (const auto& [a, b] : std::vector<std::pair<HandMadeRun::Json, HandMadeRun::Json>>{
           {0, 5}, {-1, 2}, {1, nullptr}, {nullptr, 1}}) {
    const RunComparison found = compare(with_value(a), with_value(b), with_rule(">5%"));
    EXPECT_EQ(found.metrics[0].verdict, ChangeVerdict::not_comparable) << a << " " << b;
    EXPECT_TRUE(found.fails());
    EXPECT_FALSE(compare(with_value(a), with_value(b)).fails()) << "without a rule";
  }
  HandMadeRun two = with_value(1);
  two.add_metric("ring", "payload", 1, "B", "lower", {{"batch", "1"}});
  const RunComparison missing = compare(two, with_value(1), with_rule(">5%"));
  EXPECT_THAT(missing.only_in_a, ElementsAre("ring, payload, batch=1"));
  EXPECT_TRUE(missing.fails());
  const RunComparison added = compare(with_value(1), two, with_rule(">5%"));
  EXPECT_THAT(added.only_in_b, ElementsAre("ring, payload, batch=1"));
  EXPECT_FALSE(added.fails());
}

TEST_F(ResultsComparison, AnArmAndMetricsCanBeChosen) {
  HandMadeRun made = with_value(1);
  made.add_metric("ring", "payload", 2, "B", "lower");
  made.add_metric("ring", "peak", 3, "B", "lower");
  CompareOptions options;
  options.arms = {"ring"};
  options.metrics = {"peak"};
  const RunComparison found = compare(made, made, options);
  ASSERT_EQ(found.metrics.size(), 1u);
  EXPECT_EQ(found.metrics[0].a, 3);
  options.metrics = {"peek"};
  EXPECT_THAT(refusal(made, made, options), HasSubstr("neither run has the metric 'peek'"));
  EXPECT_THAT(refusal(made, made, options), HasSubstr("peak"));
  options.metrics = {};
  options.arms = {"wring"};
  EXPECT_THAT(refusal(made, made, options), HasSubstr("neither run has the arm 'wring'"));
}

TEST_F(ResultsComparison, ACheckThatBrokeAlwaysFails) {
  HandMadeRun a = with_value(1), b = with_value(1);
  a.add_check("paged", "equality", true);
  a.add_check("int8", "equality", false);
  b.add_check("paged", "equality", false);
  b.add_check("int8", "equality", false);
  const RunComparison found = compare(a, b);
  ASSERT_EQ(found.broken_checks.size(), 1u);
  EXPECT_EQ(found.broken_checks[0].arm, "paged");
  EXPECT_TRUE(found.fails());
  EXPECT_FALSE(compare(b, a).fails());
}

TEST_F(ResultsComparison, DifferencesOfConfigAndMachineAreListed) {
  HandMadeRun a = with_value(1), b = with_value(1);
  b.resolved =
      "schema: kvlab/1\narms:\n  - name: paged\n    cache:\n      type: ring\n      window: 8\n";
  b.environment["CPU"] = "another processor";
  b.environment["memory available"] = "2 GB";
  b.summary["failures"].push_back({{"what", "sinks"}, {"reason", "no room"}});
  const RunComparison found = compare(a, b);
  ASSERT_EQ(found.config.size(), 2u);
  EXPECT_EQ(found.config[0].what, "arms.paged.cache.type");
  EXPECT_EQ(found.config[0].a, "paged");
  EXPECT_EQ(found.config[0].b, "ring");
  EXPECT_EQ(found.config[1].what, "arms.paged.cache.window");
  EXPECT_EQ(found.config[1].a, "(absent)");
  ASSERT_EQ(found.environment.size(), 1u) << "memory changes by the minute";
  EXPECT_EQ(found.environment[0].b, "another processor");
  ASSERT_EQ(found.new_failures.size(), 1u);
  EXPECT_EQ(found.new_failures[0].what, "sinks");
  EXPECT_FALSE(found.fails());
}

TEST_F(ResultsComparison, RunsThatDidNotEndWellOrMeasureOtherUnitsAreRefused) {
  HandMadeRun failed = with_value(1);
  failed.run["status"] = "failed";
  EXPECT_THAT(refusal(with_value(1), failed), HasSubstr("status ok, got failed"));
  EXPECT_THAT(refusal(with_value(1), with_value(1, "lower", "KB")),
              HasSubstr("the runs use two units, 'B' and 'KB'"));
}

}  // namespace
}  // namespace kvlab

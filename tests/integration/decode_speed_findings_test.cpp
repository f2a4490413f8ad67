// What decode_speed says of samples that were made up: verdicts, sentences, and blocks left out.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "../../experiments/decode_speed/findings.h"
#include "../../experiments/decode_speed/report_parts.h"

namespace {

using namespace kvlab;
using namespace kvlab::experiments::decode_speed_kind;

constexpr double kControlMs = 10;

// Blocks in which the control took 10 ms, and an arm `factors` of that.
std::vector<RunSample> runs(const std::vector<double>& factors, bool contended = false) {
  std::vector<RunSample> found;
  for (const double factor : factors) {
    RunSample run;
    run.step_ns = {std::llround(kControlMs * factor * 1e6)};
    run.contention.contended = contended;
    found.push_back(run);
  }
  return found;
}

// Time over the control's around `middle`, with its blocks on both sides.
std::vector<double> around(double middle, double spread = 0.002) {
  std::vector<double> factors;
  for (const double step : {-1.0, 0.5, 1.0, -0.5, 0.2, -0.2}) {
    factors.push_back(middle * (1 + spread * step));
  }
  return factors;
}

MemoryUsage holding(int64_t bytes) {
  MemoryUsage usage;
  usage.add(MemoryKind::storage, bytes);
  return usage;
}

ArmAtDepth arm_at(std::vector<RunSample> samples, double kv_bytes = 40e6,
                  int64_t reserved = 40'000'000) {
  ArmAtDepth arm;
  arm.runs = std::move(samples);
  arm.kv_bytes = kv_bytes;
  arm.usage = holding(reserved);
  arm.shares = StepShares{0.86, 0.09, 0.01, 0.04};
  return arm;
}

// A control, the control again, and the arms of a test.
struct MadeUp {
  SpeedConfig config;
  SpeedModel model;
  std::vector<CaseResult> cases;

  explicit MadeUp(const std::vector<std::string>& arms) {
    for (const std::string& name : {std::string("control"), std::string("again")}) add_arm(name);
    for (const std::string& name : arms) add_arm(name);
    config.again = 1;
    model.source.name = "toy";
  }

  void add_arm(const std::string& name) {
    ArmConfig arm;
    arm.name = name;
    config.arms.push_back(arm);
  }

  CaseResult& add_case() {
    CaseResult& one = cases.emplace_back();
    one.model = &model;
    one.weight_bytes = 360'000'000;
    one.failures.resize(config.arms.size());
    return one;
  }

  DepthResult& add_depth(CaseResult& one, int64_t depth, std::vector<ArmAtDepth> arms,
                         std::vector<double> again = around(1.0)) {
    DepthResult& at = one.depths.emplace_back();
    at.depth = depth;
    at.arms.push_back(arm_at(runs(around(1.0, 0))));
    at.arms.push_back(arm_at(runs(again)));
    for (ArmAtDepth& arm : arms) at.arms.push_back(std::move(arm));
    at.bytes_per_second.assign(at.arms.front().runs.size(), 50e9);
    return at;
  }

  std::string sentence(const std::string& arm) const {
    for (const std::string& text : conclude(Findings(config, cases), cases.front())) {
      if (text.starts_with(arm + " is ")) return text;
    }
    return "no sentence on " + arm;
  }
};

Verdict verdict(const Findings& findings, size_t arm) {
  return findings.comparison(findings.cases().front().depths.front(), arm)->verdict;
}

TEST(DecodeSpeedFindings, CallsClearDifferencesByTheWordsOfTheFramework) {
  MadeUp made({"fast", "slow", "same"});
  made.add_depth(
      made.add_case(), 960,
      {arm_at(runs(around(0.8))), arm_at(runs(around(1.25))), arm_at(runs(around(1.0)))});
  const Findings findings(made.config, made.cases);
  EXPECT_EQ(verdict(findings, 2), Verdict::faster);
  EXPECT_EQ(verdict(findings, 3), Verdict::slower);
  EXPECT_EQ(verdict(findings, 4), Verdict::not_distinguishable);
  EXPECT_EQ(findings.comparisons(), 3u) << "the second control is not compared";
  const DepthResult& at = made.cases.front().depths.front();
  EXPECT_EQ(findings.comparison(at, 0), nullptr);
  EXPECT_EQ(findings.comparison(at, 1), nullptr);
  EXPECT_NEAR(findings.speed_ratio(at, 2).ratio, 1.25, 1e-3);
  EXPECT_NEAR(findings.time_ratio(at, 2).ratio, 0.8, 1e-3);
  EXPECT_DOUBLE_EQ(*findings.time_ratio(at, 2).low, 1 / *findings.speed_ratio(at, 2).high);
  EXPECT_EQ(findings.clear_winner(at), 2u);
}

TEST(DecodeSpeedFindings, ManyCasesAndDepthsAskForMore) {
  // Alone its p is below 0.05, but not below 0.05 / 12.
  const std::vector<double> weak = {0.98, 0.95, 1.0, 0.96, 0.97, 0.99};
  MadeUp alone({"weak"});
  alone.add_depth(alone.add_case(), 0, {arm_at(runs(weak))});
  ASSERT_EQ(verdict(Findings(alone.config, alone.cases), 2), Verdict::faster);
  MadeUp many({"weak"});
  many.cases.reserve(4);
  for (int i = 0; i < 4; ++i) {
    CaseResult& one = many.add_case();
    one.depths.reserve(3);
    for (const int64_t depth : {0, 512, 960}) {
      const bool first = i == 0 && depth == 0;
      many.add_depth(one, depth, {arm_at(runs(first ? weak : around(1.0)))});
    }
  }
  const Findings findings(many.config, many.cases);
  EXPECT_EQ(findings.comparisons(), 12u);
  EXPECT_EQ(verdict(findings, 2), Verdict::not_distinguishable);
  bool said = false;
  for (const std::string& text : without_significance(findings).paragraphs) {
    said = said || text.find("12 comparison(s) were made") != std::string::npos;
  }
  EXPECT_TRUE(said);
}

TEST(DecodeSpeedFindings, ADifferenceThatTheControlHasFromItselfIsNoise) {
  MadeUp made({"arm"});
  made.add_depth(made.add_case(), 0, {arm_at(runs(around(1.03)))}, around(1.03, 0.03));
  EXPECT_EQ(verdict(Findings(made.config, made.cases), 2), Verdict::not_distinguishable);
  made.config.again.reset();
  EXPECT_EQ(verdict(Findings(made.config, made.cases), 2), Verdict::slower);
}

TEST(DecodeSpeedFindings, RefusesAVerdictWhereMostSamplesWereDisturbed) {
  MadeUp made({"arm", "quiet"});
  DepthResult& at = made.add_depth(made.add_case(), 0,
                                   {arm_at(runs(around(0.5), true)), arm_at(runs(around(0.5)))});
  at.arms[0].runs[0].contention.contended = true;
  const Findings findings(made.config, made.cases);
  EXPECT_EQ(verdict(findings, 2), Verdict::refused);
  EXPECT_EQ(verdict(findings, 3), Verdict::faster);
  EXPECT_EQ(findings.flagged(at, 2), 6u);
  EXPECT_NE(made.sentence("arm").find(": refused (7 of 12 samples were disturbed)"),
            std::string::npos)
      << made.sentence("arm");
}

TEST(DecodeSpeedFindings, SaysForEachArmWhatItIsWhatItHoldsAndWhyItIsNotFaster) {
  MadeUp made({"paged", "int8", "none", "fast"});
  CaseResult& one = made.add_case();
  one.depths.reserve(2);
  for (const int64_t depth : {0, 960}) {
    made.add_depth(
        one, depth,
        {arm_at(runs(around(1.0)), 40e6, 27'600'000), arm_at(runs(around(1.0)), 10e6, 10'000'000),
         arm_at(runs(around(2.0)), 0, 0), arm_at(runs(around(0.5)), 10e6, 10'000'000)});
  }
  EXPECT_EQ(
      made.sentence("paged"),
      "paged is 1.00x [1.00, 1.00] of control at depth 0: not distinguishable; 1.00x [1.00, 1.00] at depth 960: not distinguishable; at depth "
      "960 it holds 31 % fewer bytes; it is not faster for that: a step reads as many bytes "
      "of K and V, only fewer are set aside.");
  // 30 of 400 MB.
  EXPECT_NE(
      made.sentence("int8").find(
          "it holds 75 % fewer bytes; it is not faster for that: a step reads 75 % fewer bytes "
          "of K and V, which is 7.5 % of all that a step of the control reads, and is "
          "weight-bound: 86 % of a step is products with weights"),
      std::string::npos)
      << made.sentence("int8");
  EXPECT_NE(made.sentence("none").find("it holds nothing; it is not faster for that: it computes "
                                       "all earlier tokens again"),
            std::string::npos)
      << made.sentence("none");
  EXPECT_EQ(made.sentence("fast").find("not faster"), std::string::npos) << made.sentence("fast");
}

TEST(DecodeSpeedFindings, AnArmThatCopiesStandsBesideWhatItsBytesSay) {
  MadeUp made({"concat"});
  ArmAtDepth concat = arm_at(runs(around(1.3)));
  concat.copied_bytes = 40e6;
  made.add_depth(made.add_case(), 960, {concat});
  // (360 + 40 + 80) / 400.
  EXPECT_NE(
      made.sentence("concat").find("it copies 40.00 MB per step, by its bytes 1.20 times the "
                                   "control's time, measured 1.30 "),
      std::string::npos)
      << made.sentence("concat");
  EXPECT_NE(made.sentence("concat").find(", +8 % against that"), std::string::npos)
      << made.sentence("concat");
}

TEST(DecodeSpeedFindings, TheConclusionsAnswerOverAllCasesInASentenceForEachArm) {
  MadeUp made({"int8", "concat", "none"});
  made.cases.reserve(2);
  for (const int64_t batch : {1, 8}) {
    CaseResult& one = made.add_case();
    one.batch = batch;
    one.depths.reserve(2);
    for (const int64_t depth : {0, 960}) {
      const bool wins = batch == 8 && depth == 960;
      std::vector<ArmAtDepth> arms = {
          arm_at(runs(around(wins ? 0.5 : 1.0)), 10e6, 10'000'000),
          arm_at(runs(around(1.25)), 40e6, 40'000'000),
          arm_at(depth == 960 ? std::vector<RunSample>() : runs(around(2.0, 0)), 0, 0)};
      if (depth == 960) arms[2].left_out = "too slow";
      made.add_depth(one, depth, std::move(arms));
    }
  }
  const std::vector<std::string> said = answer(Findings(made.config, made.cases));
  ASSERT_EQ(said.size(), 6u) << "the control, three arms, the noise, and where the rest is";
  EXPECT_EQ(said[0],
            "A step of control takes 10.00 ms (batch 1, depth 0) and gives every row one token; at "
            "batch 8, depth 960 it is weight-bound, 80 % of the floor that its bytes set, of which "
            "10.0 % are K and V.");
  EXPECT_EQ(said[1],
            "int8 is faster at batch 8, depth 960, not distinguishable in 3 of 4. Deepest (batch 8, "
            "depth 960): faster, 2.00x [2.00, 2.00] the speed of control; it holds 75 % fewer "
            "bytes.");
  EXPECT_TRUE(said[2].starts_with("concat is slower in all 4 comparisons. Deepest (batch 8, depth "
                                  "960): slower, 0.80x [0.80, 0.80] the speed of control"))
      << said[2];
  EXPECT_NE(said[3].find("; no speed at batch 1, depth 960 and 1 more: left out: too slow."),
            std::string::npos)
      << said[3];
  EXPECT_TRUE(said[4].starts_with("Noise: control measured a second time is at worst 1.00x "))
      << said[4];
  EXPECT_NE(said[4].find("0 of 108 samples were flagged"), std::string::npos) << said[4];
  for (const std::string& sentence : said) {
    EXPECT_EQ(sentence.find("f32"), std::string::npos) << "what all cases share: " << sentence;
  }
}

TEST(DecodeSpeedFindings, AnIntervalThatSaysNothingIsSaidInWords) {
  MadeUp made({"arm"});
  DepthResult& at = made.add_depth(made.add_case(), 0, {arm_at(runs({1.0, 6.0}))}, {1.0, 1.01});
  at.arms[0].runs.resize(2);
  at.bytes_per_second.resize(2);
  const std::string text = made.sentence("arm");
  EXPECT_NE(text.find("[interval too wide (n=2)] of control"), std::string::npos) << text;
}

TEST(DecodeSpeedFindings, SpeedRatiosCarryTheirVerdictIntoTheSummary) {
  MadeUp made({"fast", "same"});
  made.add_depth(made.add_case(), 960, {arm_at(runs(around(0.8))), arm_at(runs(around(1.0)))});
  const Findings findings(made.config, made.cases);
  std::vector<Metric> metrics;
  MetricList list(findings, metrics);
  ReportSection section;
  add_tables(section, findings, made.cases.front(), list);
  std::map<std::string, std::string> verdicts;
  for (const Metric& metric : metrics) {
    if (metric.verdict.empty()) {
      EXPECT_TRUE(std::isnan(metric.p)) << metric.metric;
      continue;
    }
    EXPECT_EQ(metric.metric, "speed_ratio") << "one verdict for each comparison";
    EXPECT_GT(metric.p, 0);
    EXPECT_LE(metric.p, 1);
    verdicts[metric.arm] = metric.verdict;
  }
  EXPECT_EQ(verdicts, (std::map<std::string, std::string>{{"fast", "faster"},
                                                          {"same", "not distinguishable"}}));
}

TEST(DecodeSpeedFindings, AStepIsNoTokenWhereItHasSeveralRows) {
  MadeUp made({"arm"});
  CaseResult& one = made.add_case();
  one.batch = 8;
  made.add_depth(one, 0, {arm_at(runs(around(1.0)))});
  const Findings findings(made.config, made.cases);
  std::vector<Metric> metrics;
  MetricList list(findings, metrics);
  ReportSection section;
  add_tables(section, findings, one, list);
  std::map<std::string, double> control;
  for (const Metric& metric : metrics) {
    if (metric.arm == "control") control[metric.metric] = metric.value;
  }
  EXPECT_DOUBLE_EQ(control.at("ms_per_step"), 10);
  EXPECT_DOUBLE_EQ(control.at("tokens_per_s"), 800);
  EXPECT_EQ(section.tables.front().columns[3].title, "ms per step");
}

TEST(DecodeSpeedFindings, ASlowArmDoesNotPressTheOthersOntoTheAxis) {
  const auto log_axis = [](double slowest) {
    MadeUp made({"slow"});
    CaseResult& one = made.add_case();
    made.add_depth(one, 960, {arm_at(runs(around(slowest)))});
    ReportSection section;
    add_figures(section, Findings(made.config, made.cases), one);
    return section.figures.front().vega_lite.find("\"log\"") != std::string::npos;
  };
  EXPECT_TRUE(log_axis(30));
  EXPECT_FALSE(log_axis(5));
}

TEST(DecodeSpeedFindings, AnArmThatRecomputesSaysThatItHasNoFloor) {
  MadeUp made({"none", "refused"});
  CaseResult& one = made.add_case();
  made.add_depth(one, 960,
                 {arm_at(runs(around(2.0)), 0, 0), arm_at(runs(around(1.0), true), 10e6, 10'000'000)});
  one.depths.front().arms[0].runs[0].contention.contended = true;
  const Findings findings(made.config, made.cases);
  EXPECT_NE(made.sentence("none").find("; no floor: it reads no cache, it computes"),
            std::string::npos)
      << made.sentence("none");
  EXPECT_NE(made.sentence("refused").find("; without a verdict nobody knows whether it is faster "
                                          "for that: a step reads 75 % fewer bytes of K and V"),
            std::string::npos)
      << made.sentence("refused");
  std::vector<Metric> metrics;
  MetricList list(findings, metrics);
  ReportSection section;
  add_tables(section, findings, one, list);
  EXPECT_EQ(section.tables.front().rows[2][8].text, "no floor");
}

TEST(DecodeSpeedFindings, ABlockInWhichAnArmStoodStillIsLeftOutForAll) {
  DepthResult at;
  at.arms = {arm_at(runs({1.0, 1.1, 1.2})), arm_at(runs({2.0, 2.1, 2.2})), arm_at({})};
  at.bytes_per_second = {1, 2, 3};
  at.arms[1].runs[1].contention.suspended = true;
  drop_suspended_blocks(at);
  EXPECT_EQ(at.suspended_blocks, 1);
  EXPECT_EQ(at.bytes_per_second, (std::vector<double>{1, 3}));
  ASSERT_EQ(at.arms[0].runs.size(), 2u);
  EXPECT_DOUBLE_EQ(at.arms[0].runs[1].median_ms(), 12);
  EXPECT_DOUBLE_EQ(at.arms[1].runs[1].median_ms(), 22);
  EXPECT_TRUE(at.arms[2].runs.empty());
}

TEST(DecodeSpeedFindings, OnlyBlocksWithAllArmsAreKept) {
  DepthResult at;
  at.arms = {arm_at(runs({1, 1, 1})), arm_at(runs({2, 2})), arm_at(runs({3}))};
  at.bytes_per_second = {1, 2, 3};
  keep_whole_blocks(at, {true, true, false});
  EXPECT_EQ(at.bytes_per_second.size(), 2u);
  EXPECT_EQ(at.arms[0].runs.size(), 2u);
  EXPECT_EQ(at.arms[1].runs.size(), 2u);
  EXPECT_TRUE(at.arms[2].runs.empty()) << "an arm that failed keeps nothing";
}

}  // namespace

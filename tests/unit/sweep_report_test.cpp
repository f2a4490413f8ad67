#include "kvlab/sweep/sweep_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "kvlab/runtime/comparison.h"

namespace {

using namespace kvlab;

StoredRun run_with(int64_t index, double ratio, double low, double high, Verdict verdict,
                   double p) {
  StoredRun run;
  run.case_index = index;
  run.status = "ok";
  Metric metric{"paged", "speed_ratio", ratio, "", 5, low, high, BetterDirection::higher, {}};
  metric.verdict = verdict_name(verdict);
  metric.p = p;
  run.metrics = {metric, {"paged", "reserved", 100.0 * static_cast<double>(index + 1), "B", 1, NAN,
                          NAN, BetterDirection::lower, {}}};
  run.checks = {{"paged", "equal to the control", true, "difference 0"}};
  return run;
}

StoredRuns three_cases() {
  StoredRuns stored;
  stored.cases = {{0, "batch=1", "aa", {"workload.batch=1", "control=none"}},
                  {1, "batch=4", "bb", {"workload.batch=4", "control=none"}},
                  {2, "batch=9", "cc", {"workload.batch=9", "control=none"}, true, {"too large"}}};
  stored.runs = {run_with(0, 1.02, 0.99, 1.05, Verdict::not_distinguishable, 0.3),
                 run_with(1, 1.5, 1.4, 1.6, Verdict::faster, 0.001)};
  return stored;
}

const ReportTable& table_of(const ReportDocument& report, const std::string& id) {
  for (const ReportTable& table : report.sections.at(0).tables) {
    if (table.id == id) return table;
  }
  throw std::runtime_error("no table " + id);
}

TEST(SweepReport, AxesAreTheKeysThatChange) {
  const std::vector<SweepAxis> axes = sweep_axes(three_cases().cases);
  ASSERT_EQ(axes.size(), 1u);
  EXPECT_EQ(axes[0].key, "workload.batch");
  EXPECT_EQ(axes[0].values, (std::vector<std::string>{"1", "4", "9"}));
  EXPECT_TRUE(axes[0].numeric);
}

TEST(SweepReport, SkippedCasesAreRowsWithTheirReasons) {
  const ReportDocument report = make_sweep_report(three_cases(), {"Title", "Question?"});
  const ReportTable& cases = table_of(report, "cases");
  ASSERT_EQ(cases.rows.size(), 3u);
  EXPECT_EQ(cases.rows[2][1].text, "skipped");
  EXPECT_EQ(cases.rows[2].back().text, "too large");
  ASSERT_EQ(report.failures.size(), 1u);
  EXPECT_EQ(report.failures[0].reason, "too large");
}

TEST(SweepReport, ACaseWithoutARunIsNotTakenForOneThatEnded) {
  StoredRuns stored = three_cases();
  stored.runs.pop_back();
  const ReportDocument report = make_sweep_report(stored, {"Title", "Question?"});
  EXPECT_EQ(table_of(report, "cases").rows[1][1].text, "not run");
  EXPECT_EQ(table_of(report, "numbers").rows.size(), 1u);
}

TEST(SweepReport, ConclusionsQuoteTheVerdictsOfTheCases) {
  const ReportDocument report = make_sweep_report(three_cases(), {"Title", "Question?"});
  ASSERT_GE(report.conclusions.size(), 3u);
  EXPECT_EQ(report.conclusions[0],
            "speed_ratio of paged: faster at batch=4 1.50 [1.40, 1.60]. Not distinguishable in 1 "
            "case(s).");
  EXPECT_NE(report.conclusions[1].find("2 comparisons"), std::string::npos);
  EXPECT_EQ(report.conclusions[2],
            "Of 3 cases 1 were skipped as incompatible and 0 did not end well.");
}

// What most samples of a case were disturbed for is no finding, whatever its interval says.
TEST(SweepReport, ARefusedVerdictStaysRefused) {
  StoredRuns stored = three_cases();
  stored.runs[1].metrics[0].verdict = verdict_name(Verdict::refused);
  const ReportDocument report = make_sweep_report(stored, {"Title", "Question?"});
  EXPECT_EQ(report.conclusions[0],
            "speed_ratio of paged: Not distinguishable in 1 case(s). Refused in 1 case(s), whose "
            "reports say why.");
}

// One in twenty cases of the same code looks like a difference: all cases are one family.
TEST(SweepReport, ManyCasesAskForMore) {
  StoredRuns stored = three_cases();
  stored.cases.resize(2);
  for (int64_t index = 2; index < 22; ++index) {
    stored.cases.push_back({index, "more", "dd", {}});
    stored.runs.push_back(run_with(index, 1.0, 0.9, 1.1, Verdict::not_distinguishable, 0.9));
  }
  stored.runs[1].metrics[0].p = 0.01;
  const ReportDocument report = make_sweep_report(stored, {"Title", "Question?"});
  EXPECT_EQ(report.conclusions[0], "speed_ratio of paged: Not distinguishable in 22 case(s).");
}

TEST(SweepReport, NumericAxesHaveAFigureForEachMetricWithADirection) {
  const ReportDocument report = make_sweep_report(three_cases(), {"Title", "Question?"});
  ASSERT_EQ(report.sections.at(0).figures.size(), 2u);
  EXPECT_EQ(report.sections[0].figures[0].id, "speed_ratio_by_workload_batch");
  EXPECT_NO_THROW(check_document(report));
}

TEST(SweepReport, CasesThatEndedWellAreLinkedAndTheirFiguresExplained) {
  StoredRuns stored = three_cases();
  stored.runs[0].name = "0000-aa";
  stored.runs[1].name = "0001-bb";
  stored.runs[1].status = "failed";
  const ReportDocument report = make_sweep_report(stored, {"Title", "Question?"});
  std::vector<std::string> links;
  for (const ReportLink& link : report.raw_files) {
    if (link.path.find("cases/") != std::string::npos) links.push_back(link.path);
  }
  EXPECT_EQ(links, std::vector<std::string>{"../cases/0000-aa/report/index.html"});
  ASSERT_EQ(report.sections.at(0).paragraphs.size(), 1u);
  EXPECT_NE(report.sections[0].paragraphs[0].find("kvlab report FOLDER --cases"),
            std::string::npos);
  EXPECT_NO_THROW(check_document(report));
}

TEST(SweepReport, TheControlASecondTimeIsNoiseAndNoComparison) {
  StoredRuns stored = three_cases();
  for (StoredRun& run : stored.runs) {
    run.metrics[0].arm = "none_again";
    run.metrics[0].verdict.clear();
  }
  SweepReportText text{"Title", "Question?"};
  text.control = "none";
  const ReportDocument report = make_sweep_report(stored, text);
  EXPECT_EQ(report.conclusions.at(0),
            "Noise: none measured a second time is 1.02x to 1.50x of itself (n=2).");
  for (const std::string& sentence : report.conclusions) {
    EXPECT_EQ(sentence.find("comparisons were made"), std::string::npos) << sentence;
  }
}

TEST(SweepReport, WideAxesAreLogarithmicAndListsOfOneAreNumbers) {
  StoredRuns stored = three_cases();
  stored.cases[0].overrides = {"workload.new_tokens=[8]"};
  stored.cases[1].overrides = {"workload.new_tokens=[512]"};
  stored.cases[2].overrides = {"workload.new_tokens=[4]"};
  const ReportDocument report = make_sweep_report(stored, {"Title", "Question?"});
  ASSERT_EQ(report.sections.at(0).figures.size(), 2u);
  const ReportFigure& figure = report.sections[0].figures[0];
  EXPECT_EQ(figure.title, "speed_ratio by new_tokens");
  const auto json = nlohmann::json::parse(figure.vega_lite);
  const auto& encoding = json.at("layer")[0].at("encoding");
  EXPECT_EQ(encoding.at("x").at("scale").at("type"), "log");
  EXPECT_EQ(encoding.at("y").at("scale").at("type"), "log") << "ratios are as far above as below 1";
}

TEST(SweepReport, PartsOfAGroupThatNeverChangeAreSaidOnce) {
  StoredRuns stored = three_cases();
  int64_t batch = 1;
  for (StoredRun& run : stored.runs) {
    for (Metric& metric : run.metrics) {
      metric.group = {{"prompt", "8"}, {"batch", std::to_string(batch)}};
    }
    ++batch;
  }
  const ReportDocument report = make_sweep_report(stored, {"Title", "Question?"});
  EXPECT_EQ(report.held_fixed.at(0), "prompt: 8");
  EXPECT_EQ(table_of(report, "numbers").rows[0][3].text, "batch=1");
}

TEST(SweepReport, AFailedCheckOfACaseFailsTheReportsCheck) {
  StoredRuns stored = three_cases();
  stored.runs[1].checks[0].passed = false;
  const ReportDocument report = make_sweep_report(stored, {"Title", "Question?"});
  ASSERT_EQ(report.checks.size(), 2u);
  EXPECT_EQ(report.checks[0].check, "case 1: equal to the control");
  EXPECT_FALSE(report.checks[1].passed);
  EXPECT_EQ(report.checks[1].detail, "1 of 2 passed");
}

}  // namespace

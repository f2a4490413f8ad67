#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlab/core/error.h"
#include "kvlab/results/sweep_comparison.h"
#include "tests/fixtures/hand_made_run.h"
#include "tests/fixtures/model_file_writer.h"

namespace kvlab {
namespace {

using testing::HandMadeRun;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
namespace fs = std::filesystem;

// A sweep over the length; a tpot of 0 is a case that failed.
struct MadeCase {
  std::string length;
  double tpot = 0;
  std::string hash = "aaaaaaaa";
};

class ResultsSweepComparison : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::vector<MadeCase>& cases) const {
    const fs::path folder = folder_.path() / name;
    std::string plan;
    for (size_t i = 0; i < cases.size(); ++i) {
      const MadeCase& one = cases[i];
      plan += "{\"index\":" + std::to_string(i) + ",\"name\":\"length=" + one.length +
              "\",\"overrides\":[\"task.length=" + one.length + "\"],\"hash\":\"" + one.hash +
              "00000000\"}\n";
      HandMadeRun made;
      made.add_metric("paged", "tpot", one.tpot, "ms", "lower");
      made.add_metric("paged", "reserved", 1024, "bytes", "lower");
      if (one.tpot == 0) made.run["status"] = "failed";
      made.write(folder / "cases" / ("000" + std::to_string(i) + "-" + one.hash));
    }
    testing::write_text(folder / "sweep.json", "{\"status\": \"ok\"}\n");
    testing::write_text(folder / "plan.jsonl", plan);
  }

  SweepComparison compare(const CompareOptions& options = {}) const {
    return compare_sweeps(read_runs((folder_.path() / "a").string()),
                          read_runs((folder_.path() / "b").string()), options);
  }

  std::string refusal(const CompareOptions& options = {}) const {
    try {
      compare(options);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }

  TemporaryFolder folder_;
};

CompareOptions slower_than(const std::string& rule) {
  CompareOptions options;
  options.metrics = {"tpot"};
  options.rule = parse_fail_rule(rule);
  options.strict = true;
  return options;
}

TEST_F(ResultsSweepComparison, CasesAreMatchedByWhatTheySetAndNotByTheirPlace) {
  write("a", {{"16", 1.0}, {"32", 2.0}});
  write("b", {{"32", 2.2, "bbbbbbbb"}, {"16", 1.0, "cccccccc"}});
  const SweepComparison found = compare(slower_than(">5%"));
  ASSERT_EQ(found.cases.size(), 2u);
  EXPECT_EQ(found.cases[0].name, "length=16");
  EXPECT_FALSE(found.cases[0].runs.fails());
  EXPECT_EQ(found.cases[1].name, "length=32");
  EXPECT_DOUBLE_EQ(found.cases[1].runs.metrics.at(0).ratio->ratio, 1.1);
  EXPECT_TRUE(found.cases[1].runs.fails());
  EXPECT_TRUE(found.fails()) << "one case is enough";
  EXPECT_FALSE(compare(slower_than(">15%")).fails());
  const ReportTable table = comparison_table(found);
  EXPECT_EQ(table.columns.front().title, "case");
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[1].front().text, "length=32");
  EXPECT_EQ(table.rows[1].size(), table.columns.size());
}

TEST_F(ResultsSweepComparison, ACaseThatBLacksOrThatFailedThereFails) {
  write("a", {{"16", 1.0}, {"32", 2.0}, {"64", 3.0}});
  write("b", {{"16", 1.0}, {"32", 0}, {"128", 5.0}});
  const SweepComparison found = compare();
  ASSERT_EQ(found.cases.size(), 1u);
  ASSERT_EQ(found.uncompared.size(), 3u);
  EXPECT_EQ(found.uncompared[0].name, "length=32");
  EXPECT_EQ(found.uncompared[0].reason, "ok in A, failed in B");
  EXPECT_TRUE(found.uncompared[0].fails);
  EXPECT_EQ(found.uncompared[1].reason, "only in A");
  EXPECT_TRUE(found.uncompared[1].fails);
  EXPECT_EQ(found.uncompared[2].name, "length=128");
  EXPECT_FALSE(found.uncompared[2].fails) << "more than A had is no loss";
  EXPECT_TRUE(found.fails());
}

TEST_F(ResultsSweepComparison, SweepsWithNothingInCommonAreRefusedWithTheirCases) {
  write("a", {{"16", 1.0}});
  write("b", {{"17", 1.0}});
  EXPECT_THAT(refusal(), HasSubstr("no case of A is one of B. A has: length=16. B has: length=17"));
}

TEST_F(ResultsSweepComparison, AnUnfinishedSweepIsRefused) {
  write("a", {{"16", 1.0}, {"32", 1.0}});
  write("b", {{"16", 1.0}, {"32", 1.0}});
  fs::remove_all(folder_.path() / "b/cases/0001-aaaaaaaa");
  EXPECT_THAT(refusal(), HasSubstr("1 of 2 cases of sweep B never ran"));
}

TEST_F(ResultsSweepComparison, AFailedRunThatWasPutAsideIsNotTheCase) {
  write("a", {{"16", 1.0}});
  write("b", {{"16", 1.0}});
  HandMadeRun failed;
  failed.run["status"] = "failed";
  failed.write(folder_.path() / "b/cases/0000-aaaaaaaa.failed-1");
  const SweepComparison found = compare();
  EXPECT_EQ(found.cases.size(), 1u);
  EXPECT_TRUE(found.uncompared.empty());
}

TEST_F(ResultsSweepComparison, AMetricThatNoCaseHasIsRefused) {
  write("a", {{"16", 1.0}});
  write("b", {{"16", 1.0}});
  CompareOptions options;
  options.metrics = {"tpot", "tpott"};
  EXPECT_THAT(refusal(options), HasSubstr("neither run has the metric 'tpott'"));
}

}  // namespace
}  // namespace kvlab

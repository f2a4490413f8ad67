#include "kvlab/results/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kvlab/core/error.h"
#include "kvlab/runtime/csv_text.h"
#include "tests/fixtures/hand_made_run.h"
#include "tests/fixtures/model_file_writer.h"

namespace kvlab {
namespace {

using ::testing::ElementsAre;
using testing::HandMadeRun;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using Json = nlohmann::json;

class ResultsExport : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  StoredRuns sweep() const {
    testing::write_sweep(path("sweep"));
    return read_runs(path("sweep"));
  }

  StoredRuns nasty() const {
    testing::nasty_run().write(path("nasty"));
    return read_runs(path("nasty"));
  }

  TemporaryFolder folder_;
};

TEST_F(ResultsExport, MetricsHaveGroupsAndOverridesAsColumns) {
  const auto records = parse_csv(runs_to_csv(sweep(), "metrics"));
  ASSERT_EQ(records.size(), 3u);
  EXPECT_THAT(records[0],
              ElementsAre("run", "case_index", "experiment", "status", "arm", "metric",
                          "group.batch", "group.prompt_length", "value", "unit", "n", "ci_low",
                          "ci_high", "p", "verdict", "better", "timed", "config.task.length", "config.x.y"));
  EXPECT_THAT(records[1],
              ElementsAre("0000-aaaaaaaa", "0", "generation_benchmark", "ok", "paged", "tpot", "1",
                          "16", "0.00011", "ms", "1", "", "", "", "", "lower", "false", "16", "-1"));
  EXPECT_THAT(records[2],
              ElementsAre("0001-bbbbbbbb", "1", "generation_benchmark", "ok", "paged", "tpot", "1",
                          "16", "0.00021", "ms", "1", "", "", "", "", "lower", "false", "32", ""));
}

TEST_F(ResultsExport, EveryTableHasARowPerThing) {
  const StoredRuns all = sweep();
  const auto rows = [&](const char* table) {
    return parse_csv(runs_to_csv(all, table)).size() - 1;
  };
  EXPECT_EQ(rows("runs"), 2u);
  EXPECT_EQ(rows("cases"), 3u);
  EXPECT_EQ(rows("samples"), 6u);
  EXPECT_EQ(rows("environment"), 6u);
  EXPECT_EQ(rows("checks"), 0u);
  EXPECT_EQ(rows("failures"), 0u);
  EXPECT_THAT(parse_csv(runs_to_csv(all, "cases"))[3],
              ElementsAre("2", "odd", "cccccccc00000000", "[\"~x.y\"]", "true",
                          "[\"ring keeps no shared rows\"]"));
  try {
    runs_to_csv(all, "metric");
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_THAT(error.what(), HasSubstr("'metric' is no table"));
    EXPECT_THAT(error.what(), HasSubstr("metrics"));
  }
}

TEST_F(ResultsExport, JsonHoldsRunsCasesAndSamples) {
  const Json json = Json::parse(runs_to_json(sweep()));
  EXPECT_EQ(json["schema"], "kvlab-export/1");
  ASSERT_EQ(json["runs"].size(), 2u);
  EXPECT_EQ(json["runs"][0]["metrics"][0]["value"], 0.00011);
  EXPECT_EQ(json["runs"][0]["metrics"][0]["group"]["batch"], "1");
  EXPECT_EQ(json["runs"][1]["samples"][2]["token_ns"], (std::vector<int>{220, 220}));
  EXPECT_EQ(json["runs"][1]["environment"]["CPU"], "a processor");
  EXPECT_EQ(json["cases"][2]["reasons"][0], "ring keeps no shared rows");
}

TEST_F(ResultsExport, TextThatASpreadsheetWouldRunGetsAnApostrophe) {
  EXPECT_EQ(csv_text_field("=1+1"), "'=1+1");
  EXPECT_EQ(csv_text_field("+1"), "'+1");
  EXPECT_EQ(csv_text_field("-1"), "'-1");
  EXPECT_EQ(csv_text_field("@x"), "'@x");
  EXPECT_EQ(csv_text_field("\tx"), "'\tx");
  EXPECT_EQ(csv_text_field("\rx"), "'\rx");
  EXPECT_EQ(csv_text_field("a=1"), "a=1");
  EXPECT_EQ(csv_text_field(""), "");
}

TEST_F(ResultsExport, NastyNamesSurviveInEveryCsvTable) {
  const StoredRuns all = nasty();
  std::vector<std::string> expected;
  for (const std::string& name : testing::nasty_names()) {
    expected.push_back(csv_text_field(testing::as_read(name)));
  }
  const auto column = [&](const char* table, const std::string& title) {
    const auto records = parse_csv(runs_to_csv(all, table));
    const auto& titles = records.front();
    const auto at = std::find(titles.begin(), titles.end(), title) - titles.begin();
    std::vector<std::string> values;
    for (size_t i = 1; i < records.size(); ++i) {
      EXPECT_EQ(records[i].size(), titles.size());
      values.push_back(records[i][static_cast<size_t>(at)]);
    }
    return values;
  };
  EXPECT_EQ(column("metrics", "arm"), expected);
  EXPECT_EQ(column("metrics", "metric"), expected);
  EXPECT_EQ(column("metrics", "unit"), expected);
  EXPECT_EQ(column("checks", "check"), expected);
  EXPECT_EQ(column("failures", "reason"), expected);
  EXPECT_EQ(column("samples", "arm"), expected);
  for (const std::string& table : csv_tables()) {
    for (const auto& record : parse_csv(runs_to_csv(all, table))) {
      for (const std::string& field : record) {
        EXPECT_EQ(csv_text_field(field), field) << table << ": would be run";
      }
    }
  }
}

TEST_F(ResultsExport, NastyNamesSurviveInJson) {
  const Json json = Json::parse(runs_to_json(nasty()));
  const auto& names = testing::nasty_names();
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string expected = testing::as_read(names[i]);
    EXPECT_EQ(json["runs"][0]["metrics"][i]["arm"], expected);
    EXPECT_EQ(json["runs"][0]["metrics"][i]["group"][expected], expected);
    EXPECT_EQ(json["runs"][0]["environment"]["fact " + expected], expected);
    EXPECT_EQ(json["runs"][0]["samples"][i]["text"], expected);
  }
}

TEST_F(ResultsExport, ColumnNamesOfOverridesAndGroupsAreNeverFormulas) {
  HandMadeRun made;
  made.overrides = {"+=cmd=1", "@x=2"};
  made.add_metric("a", "m", 1, "B", "none", {{"=k", "-2"}, {"z", "=1"}});
  made.write(path("run"));
  const auto records = parse_csv(runs_to_csv(read_runs(path("run")), "metrics"));
  for (const auto& record : records) {
    for (const std::string& field : record) {
      if (field == "-2") continue;  // a number
      EXPECT_EQ(csv_text_field(field), field);
    }
  }
  EXPECT_EQ(records[1][6], "-2");
  EXPECT_EQ(records[1][7], "'=1");
}

}  // namespace
}  // namespace kvlab

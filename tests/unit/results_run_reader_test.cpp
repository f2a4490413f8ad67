#include "kvlab/results/run_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kvlab/core/error.h"
#include "tests/fixtures/hand_made_run.h"
#include "tests/fixtures/model_file_writer.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using testing::HandMadeRun;
using ::testing::HasSubstr;
using testing::TemporaryFolder;
using Pair = std::pair<std::string, std::string>;

class ResultsRunReader : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_.path() / name).string(); }

  std::string written(const HandMadeRun& made, const std::string& name = "run") const {
    made.write(path(name));
    return path(name);
  }

  static std::string refusal(const std::string& folder) {
    try {
      read_run(folder);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }

  TemporaryFolder folder_;
};

TEST_F(ResultsRunReader, EverythingThatARunWroteIsRead) {
  HandMadeRun made;
  made.add_metric("paged", "payload", 4096, "B", "lower", {{"batch", "2"}});
  made.summary["metrics"][0]["ci_low"] = 1.5;
  made.summary["metrics"][0]["timed"] = true;
  made.summary["metrics"][0]["verdict"] = "refused";
  made.summary["metrics"][0]["p"] = 0.25;
  made.add_metric("ring", "kl", nullptr, "nats", "none");
  made.add_check("paged", "equality", false);
  made.summary["failures"].push_back({{"what", "ring"}, {"reason", "not built"}});
  made.overrides = {"a.b=1"};
  made.add_tpot("paged", {100, 200});
  const StoredRun run = read_run(written(made));
  EXPECT_EQ(run.name, "run");
  EXPECT_EQ(run.experiment, "generation_benchmark");
  EXPECT_EQ(run.status, "ok");
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.seed, 7u);
  EXPECT_THAT(run.argv, ElementsAre("kvlab", "run", "x.yaml"));
  EXPECT_THAT(run.overrides, ElementsAre("a.b=1"));
  EXPECT_EQ(run.config, made.resolved);
  ASSERT_EQ(run.environment.size(), 3u);
  EXPECT_EQ(run.environment[0], (ReportFact{"CPU", "a processor"}));
  ASSERT_EQ(run.metrics.size(), 3u);
  EXPECT_EQ(run.metrics[0].value, 4096);
  EXPECT_EQ(run.metrics[0].ci_low, 1.5);
  EXPECT_TRUE(std::isnan(run.metrics[0].ci_high));
  EXPECT_TRUE(run.metrics[0].timed);
  EXPECT_EQ(run.metrics[0].verdict, "refused");
  EXPECT_EQ(run.metrics[0].p, 0.25);
  EXPECT_EQ(run.metrics[1].verdict, "");
  EXPECT_TRUE(std::isnan(run.metrics[1].p));
  EXPECT_EQ(run.metrics[0].direction, BetterDirection::lower);
  EXPECT_THAT(run.metrics[0].group, ElementsAre(Pair{"batch", "2"}));
  EXPECT_TRUE(std::isnan(run.metrics[1].value));
  EXPECT_FALSE(run.metrics[1].timed);
  ASSERT_EQ(run.checks.size(), 1u);
  EXPECT_EQ(run.checks[0], (ReportCheck{"paged", "equality", false, "1e-6"}));
  ASSERT_EQ(run.failures.size(), 1u);
  EXPECT_EQ(run.failures[0], (ReportFailure{"ring", "not built"}));
  ASSERT_EQ(run.samples.size(), 2u);
  EXPECT_EQ(run.samples[1].line, 2);
  EXPECT_EQ(run.samples[1].rep, 1);
  EXPECT_EQ(run.samples[1].prompt_length, 16);
  EXPECT_THAT(run.samples[1].token_ns, ElementsAre(200, 200));
}

TEST_F(ResultsRunReader, WhatIsMissingOrDamagedIsNamed) {
  EXPECT_THROW(read_run(path("nowhere")), MissingError);
  EXPECT_THAT(refusal(path("nowhere")), HasSubstr("holds no run.json"));
  for (const char* name : {"summary.json", "env.json", "config/resolved.yaml"}) {
    const std::string run = written(HandMadeRun());
    fs::remove(run + "/" + name);
    EXPECT_THAT(refusal(run), HasSubstr(std::string(name) + "' does not exist")) << name;
  }
  for (const char* name : {"run.json", "summary.json", "env.json"}) {
    const std::string run = written(HandMadeRun());
    const std::string text = testing::text_in(run + "/" + name);
    testing::write_text(run + "/" + name, text.substr(0, text.size() / 2));
    EXPECT_THAT(refusal(run), HasSubstr(std::string(name) + "': not JSON")) << name;
    testing::write_text(run + "/" + name, "[]");
    EXPECT_THAT(refusal(run), HasSubstr("expected a JSON object")) << name;
  }
}

TEST_F(ResultsRunReader, AnotherSchemaOrTypeIsRefused) {
  HandMadeRun made;
  made.run["schema_version"] = 2;
  EXPECT_THAT(refusal(written(made)), HasSubstr("schema_version must be 1, got 2"));
  made = HandMadeRun();
  made.run["status"] = "fine";
  EXPECT_THAT(refusal(written(made)), HasSubstr("got 'fine'"));
  made = HandMadeRun();
  made.add_metric("a", "m", "many", "B", "lower");
  EXPECT_THAT(refusal(written(made)),
              HasSubstr("metrics 0: 'value' must be a number or null, got a string"));
  made = HandMadeRun();
  made.add_metric("a", "m", 1, "B", "left");
  EXPECT_THAT(refusal(written(made)), HasSubstr("'better' must be higher, lower or none"));
  made = HandMadeRun();
  made.summary.erase("checks");
  EXPECT_THAT(refusal(written(made)), HasSubstr("the key 'checks' is missing"));
}

TEST_F(ResultsRunReader, AHalfWrittenSampleIsDamageInAFinishedRunAndLeftOutOfAKilledOne) {
  HandMadeRun made;
  made.add_tpot("paged", {100, 200});
  const std::string run = written(made);
  const std::string lines = testing::text_in(run + "/samples.jsonl");
  const std::string torn = lines + lines.substr(0, 20);
  testing::write_text(run + "/samples.jsonl", torn);
  EXPECT_THAT(refusal(run), HasSubstr("samples.jsonl', line 3: the line does not end"));
  for (const char* status : {"running", "failed", "interrupted"}) {
    made.run["status"] = status;
    written(made);
    fs::remove(run + "/summary.json");
    testing::write_text(run + "/samples.jsonl", torn);
    const StoredRun read = read_run(run);
    EXPECT_EQ(read.samples.size(), 2u);
    try {
      check_finished(read);
      ADD_FAILURE() << status;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr(std::string("status ok, got ") + status));
    }
  }
  // A whole line that is no JSON is damage in any run.
  testing::write_text(run + "/samples.jsonl", "{\n");
  EXPECT_THAT(refusal(run), HasSubstr("line 1: not JSON"));
}

// What a case left behind while it ran, or before it ran again, must not replace what came out.
TEST_F(ResultsRunReader, AttemptsThatDidNotEndOrWereSetAsideAreNoResults) {
  testing::write_sweep(path("sweep"));
  HandMadeRun attempt;
  attempt.run["status"] = "running";
  written(attempt, "sweep/cases/0001-bbbbbbbb.partial");
  attempt.run["status"] = "failed";
  written(attempt, "sweep/cases/0000-aaaaaaaa.failed-1");
  const StoredRuns all = read_runs(path("sweep"));
  ASSERT_EQ(all.runs.size(), 2u);
  EXPECT_EQ(all.runs[0].name, "0000-aaaaaaaa");
  EXPECT_EQ(all.runs[0].status, "ok");
  EXPECT_EQ(all.runs[1].name, "0001-bbbbbbbb");
}

TEST_F(ResultsRunReader, ASweepHasItsCasesInOrderAndItsSkippedOnes) {
  testing::write_sweep(path("sweep"));
  const StoredRuns all = read_runs(path("sweep"));
  ASSERT_EQ(all.runs.size(), 2u);
  EXPECT_EQ(all.runs[0].name, "0000-aaaaaaaa");
  EXPECT_EQ(all.runs[1].case_index, 1);
  EXPECT_EQ(all.runs[1].hash, "bbbbbbbb00000000");
  EXPECT_THAT(all.runs[0].overrides, ElementsAre("task.length=16", "+x.y=-1"));
  ASSERT_EQ(all.cases.size(), 3u);
  EXPECT_FALSE(all.cases[0].skipped);
  EXPECT_TRUE(all.cases[2].skipped);
  EXPECT_THAT(all.cases[2].reasons, ElementsAre("ring keeps no shared rows"));
}

TEST_F(ResultsRunReader, CaseTenThousandComesAfterCaseNine) {
  testing::write_text(path("sweep/plan.jsonl"), "");
  for (const char* name : {"10000-aaaaaaaa", "0009-bbbbbbbb", "9999-cccccccc"}) {
    HandMadeRun().write(path(std::string("sweep/cases/") + name));
  }
  std::vector<int64_t> order;
  for (const StoredRun& run : read_runs(path("sweep")).runs) order.push_back(*run.case_index);
  EXPECT_THAT(order, ElementsAre(9, 9999, 10000));
}

TEST_F(ResultsRunReader, AnyTreeIsSearchedAndLinksAreNotFollowed) {
  testing::write_sweep(path("runs/kind/sweep"));
  HandMadeRun().write(path("runs/kind/single"));
  fs::create_directory_symlink(path("runs"), path("runs/loop"));
  std::vector<std::string> names;
  for (const StoredRun& run : read_runs(path("runs")).runs) names.push_back(run.name);
  EXPECT_THAT(names,
              ElementsAre("kind/single", "kind/sweep/0000-aaaaaaaa", "kind/sweep/0001-bbbbbbbb"));
  fs::create_directory(path("empty"));
  EXPECT_THROW(read_runs(path("empty")), MissingError);
  EXPECT_THROW(read_runs(path("absent")), MissingError);
}

TEST_F(ResultsRunReader, SeveralFoldersKeepUniqueNames) {
  HandMadeRun().write(path("a/run"));
  HandMadeRun().write(path("b/run"));
  HandMadeRun().write(path("c/other"));
  std::vector<std::string> names;
  for (const StoredRun& run :
       read_all_runs({path("a/run"), path("b/run/"), path("c/other")}).runs) {
    names.push_back(run.name);
  }
  EXPECT_THAT(names, ElementsAre(path("a/run"), path("b/run/"), "other"));
}

TEST_F(ResultsRunReader, AFolderThatIsGivenTwiceIsRefused) {
  HandMadeRun().write(path("a"));
  HandMadeRun().write(path("b"));
  EXPECT_EQ(read_all_runs({path("a"), path("b")}).runs.size(), 2u);
  for (const std::string again : {"a", "a/", "./a", "b/../a"}) {
    try {
      read_all_runs({path("a"), path("b"), path(again)});
      ADD_FAILURE() << again;
    } catch (const UserError& error) {
      EXPECT_THAT(error.what(), HasSubstr("is the same folder as '" + path("a") + "'"));
    }
  }
}

TEST_F(ResultsRunReader, NastyNamesComeOutAsTheyWentIn) {
  const StoredRun run = read_run(written(testing::nasty_run()));
  const auto& names = testing::nasty_names();
  ASSERT_EQ(run.metrics.size(), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string expected = testing::as_read(names[i]);
    EXPECT_EQ(run.argv[i], expected);
    EXPECT_EQ(run.metrics[i].arm, expected);
    EXPECT_EQ(run.metrics[i].group[0], (Pair{expected, expected}));
    EXPECT_EQ(run.checks[i].check, expected);
    EXPECT_EQ(run.failures[i].reason, expected);
    EXPECT_EQ(run.samples[i].arm, expected);
  }
}

TEST_F(ResultsRunReader, OverridesSayWhatTheySet) {
  EXPECT_THAT(override_values({"a.b=1", "+c=x=y", "~d.e", "a.b=2"}),
              ElementsAre(Pair{"c", "x=y"}, Pair{"d.e", "removed"}, Pair{"a.b", "2"}));
}

}  // namespace
}  // namespace kvlab

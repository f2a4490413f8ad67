// What `kvlab sweep` says while it runs and when it goes on, and what it refuses then.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/fixtures/run_config.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/small_sweep.h"

namespace {

namespace fs = std::filesystem;
using namespace kvlab;
using namespace kvlab::test;
using nlohmann::json;
using testing::HasSubstr;
using testing::Not;
using Words = std::vector<std::string>;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";

class SweepResume : public ::testing::Test {
 protected:
  ProgramResult kvlab(Words words) const {
    words.insert(words.begin(), kBinary);
    return run_program(words);
  }

  ProgramResult start(const std::string& config, Words more = {}) const {
    Words words = {"sweep", config, "--runs", folder_.file("runs")};
    words.insert(words.end(), more.begin(), more.end());
    return kvlab(words);
  }

  // Of sweeps, planned or not.
  std::ptrdiff_t folders() const {
    std::error_code none;
    const fs::directory_iterator entries(folder_.file("runs") + "/generation_benchmark", none);
    return std::distance(fs::begin(entries), fs::end(entries));
  }

  // The only sweep below the folder.
  std::string sweep_folder() const {
    const fs::path parent = folder_.file("runs") + "/generation_benchmark";
    for (const auto& entry : fs::directory_iterator(parent)) {
      if (entry.path().extension() != ".partial") return entry.path().string();
    }
    return "";
  }

  static json status(const std::string& sweep) {
    return json::parse(read_whole(sweep + "/sweep.json"));
  }

  // Takes the last of three cases away.
  static void drop_last_case(const std::string& sweep) {
    for (const auto& entry : fs::directory_iterator(sweep + "/cases")) {
      if (entry.path().filename().string().starts_with("0002-")) fs::remove_all(entry.path());
    }
  }

  TemporaryFolder folder_;
};

TEST_F(SweepResume, AHeartbeatGoesOnDuringACaseAndIsToldWhereTheProcessWasKilled) {
  const std::string config = folder_.write("a.yaml", small_sweep());
  RunningProgram program({kBinary, "sweep", config, "--runs", folder_.file("runs"), "-m",
                          "measure.repeats=1000", "-m", "workload.new_tokens=[200]"});
  ASSERT_TRUE(program.wait_for_message("[1/3]", 60)) << program.finish(0).err;
  const std::string path = sweep_folder();
  const json first = status(path);
  EXPECT_EQ(first.at("status"), "running");
  json last = first;
  std::string beat;  // of the case
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(40);
  while ((last.at("heartbeat") == first.at("heartbeat") || beat.empty()) &&
         std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    last = status(path);
    for (const auto& entry : fs::directory_iterator(path + "/cases")) {
      beat = read_whole(entry.path().string() + "/heartbeat");
    }
  }
  EXPECT_GT(last.at("heartbeat"), first.at("heartbeat"));
  EXPECT_GE(beat, first.at("start").get<std::string>()) << "the case's own";
  EXPECT_EQ(last.at("counts").at("ok"), 0) << "it came from no end of a case";
  EXPECT_EQ(last.at("status"), "running");
  program.signal(SIGKILL);
  program.finish(10);

  last = status(path);
  RunningProgram next({kBinary, "sweep", "--resume", path});
  ASSERT_TRUE(next.wait_for_message("[1/3]", 60));
  next.signal(SIGINT);
  const ProgramResult told = next.finish(60);
  EXPECT_THAT(told.err, HasSubstr("Process " + last.at("pid").dump() + " on "));
  EXPECT_THAT(told.err, HasSubstr("last lived at " + last.at("heartbeat").get<std::string>()));
  RunningProgram again({kBinary, "sweep", "--resume", path});
  ASSERT_TRUE(again.wait_for_message("[1/3]", 60));
  again.signal(SIGINT);
  EXPECT_THAT(again.finish(60).err, Not(HasSubstr("last lived"))) << "that one was interrupted";
}

TEST_F(SweepResume, EveryCaseIsToldWithTheTimeThatTheOthersTake) {
  const std::string config = folder_.write("a.yaml", small_sweep());
  const ProgramResult result = start(config);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, testing::ContainsRegex("2/3\\] [^ ]*: ok, [0-9.]* s, [0-9]* s left\n"));
  EXPECT_THAT(result.err, testing::ContainsRegex("3/3\\] [^ ]*: ok, [0-9.]* s\n"));
  const std::string path = sweep_folder();
  drop_last_case(path);
  const ProgramResult one = kvlab({"sweep", "--resume", path});
  EXPECT_EQ(one.exit_code, 0) << one.err;
  EXPECT_THAT(one.err, Not(HasSubstr(" left"))) << "nothing is, after the only missing case";
}

TEST_F(SweepResume, AByteInTheMiddleOfALargeFileMakesOtherData) {
  // Blanks between the parts of JSON mean nothing, so only the bytes are others.
  const std::string blanks(3 << 20, ' ');
  std::string text = "{\"ids\": [1, 2, 3, 4, 5, 6, 7, 8]" + blanks + "}\n";
  const std::string prompts = folder_.write("prompts.jsonl", text);
  const std::string config =
      folder_.write("a.yaml", small_sweep(kThreeCases, "{jsonl: prompts.jsonl, line: 1}"));
  const ProgramResult result = start(config);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string path = sweep_folder();
  drop_last_case(path);
  const std::string planned = text;
  text[text.size() / 2] = '\t';
  folder_.write("prompts.jsonl", text);
  const ProgramResult refused = kvlab({"sweep", "--resume", path});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("prompts.jsonl' had fingerprint"));
  folder_.write("prompts.jsonl", planned);
  EXPECT_EQ(kvlab({"sweep", "--resume", path}).exit_code, 0) << "the bytes are back";
}

TEST_F(SweepResume, ADryRunTellsWhatIsMissingAndRunsNothing) {
  const std::string config = folder_.write("a.yaml", small_sweep());
  ASSERT_EQ(start(config).exit_code, 0);
  const std::string path = sweep_folder();
  drop_last_case(path);
  const std::string before = read_whole(path + "/sweep.json");
  const ProgramResult result = kvlab({"sweep", "--resume", path, "--dry-run"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("1  block_size=16  ok\n2  block_size=32  missing\n"));
  EXPECT_THAT(result.out, HasSubstr("3 cases, 1 missing, 0 failed"));
  EXPECT_EQ(read_whole(path + "/sweep.json"), before);
  for (const auto& entry : fs::directory_iterator(path + "/cases")) {
    EXPECT_FALSE(entry.path().filename().string().starts_with("0002-"));
  }
}

TEST_F(SweepResume, MoreCasesThanASweepMayHaveAreRefusedBeforeTheyAreMade) {
  const std::string config = folder_.write("a.yaml", small_sweep());
  const auto refusal = [&](const Words& more) {
    const ProgramResult result = start(config, more);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(folders(), 0) << "none of a sweep that cannot be";
    return result.err;
  };
  EXPECT_THAT(refusal({"-m", "measure.seed=range(0,1000000000)"}),
              HasSubstr("more than 10000 values"));
  std::string many = "measure.seed=range(0,9999)";
  for (int i = 0; i < 4000; ++i) many += ",range(0,9999)";
  EXPECT_THAT(refusal({"-m", many}), HasSubstr("more than 10000 values"));
  EXPECT_THAT(refusal({"-m", "measure.seed=range(0,1000)", "-m", "measure.warmup=range(0,1000)"}),
              HasSubstr("at most 10000 cases"));
  EXPECT_THAT(refusal({"--emit-only"}), HasSubstr("--launcher slurm"));
}

TEST_F(SweepResume, WhatIsNoSweepIsRefusedWithAReason) {
  EXPECT_THAT(kvlab({"sweep", "--resume", ""}).err, HasSubstr("give a config"));
  EXPECT_THAT(kvlab({"sweep", "--resume", folder_.file("none")}).err, HasSubstr("no folder"));
  EXPECT_THAT(kvlab({"sweep", "--resume", folder_.file("")}).err,
              HasSubstr("not the folder of a planned sweep"));
  const std::string config = folder_.write("a.yaml", small_sweep());
  ASSERT_EQ(start(config).exit_code, 0);
  const std::string path = sweep_folder();
  const auto refusal = [&](const std::string& name, const std::string& text) {
    const std::string before = read_whole(path + "/" + name);
    std::ofstream(path + "/" + name, std::ios::binary) << text;
    const ProgramResult result = kvlab({"sweep", "--resume", path});
    std::ofstream(path + "/" + name, std::ios::binary) << before;
    EXPECT_EQ(result.exit_code, 2) << name;
    return result.err;
  };
  const std::string plan = read_whole(path + "/plan.jsonl");
  EXPECT_THAT(refusal("planned.json", ""), HasSubstr("is damaged"));
  EXPECT_THAT(refusal("planned.json", "[]"), HasSubstr("is damaged"));
  EXPECT_THAT(refusal("plan.jsonl", ""), HasSubstr("was changed since"));
  EXPECT_THAT(refusal("plan.jsonl", plan + plan), HasSubstr("was changed since"));
  // Who removes what is done gets it done again.
  fs::remove_all(path + "/cases");
  fs::remove_all(path + "/locks");
  // sweep.json is made anew by whoever goes on; the plan and the cases are what counts.
  std::ofstream(path + "/sweep.json", std::ios::binary) << "";
  const ProgramResult result = kvlab({"sweep", "--resume", path});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(status(path).at("status"), "ok");
}

}  // namespace

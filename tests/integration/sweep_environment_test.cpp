// Sweeps while the world around them changes: files go and come, clusters and CPUs say no.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/kernels/target.h"
#include "kvlab/sweep/sweep_runner.h"
#include "tests/fixtures/run_config.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/small_sweep.h"

namespace {

namespace fs = std::filesystem;
using namespace kvlab;
using namespace kvlab::test;
using nlohmann::json;
using testing::HasSubstr;
using Words = std::vector<std::string>;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";

Registry whole_registry() {
  Registry registry;
  register_builtin_plugins(registry);
  register_builtin_experiments(registry);
  return registry;
}

class SweepEnvironment : public ::testing::Test {
 protected:
  ProgramResult kvlab(Words words, const Words& before = {}) const {
    words.insert(words.begin(), kBinary);
    words.insert(words.begin(), before.begin(), before.end());
    return run_program(words);
  }

  ProgramResult start(const std::string& config, const Words& more = {},
                      const Words& before = {}) const {
    Words words = {"sweep", config, "--runs", folder_.file("runs")};
    words.insert(words.end(), more.begin(), more.end());
    return kvlab(words, before);
  }

  // The only sweep.
  std::string sweep_folder() const {
    const fs::path parent = folder_.file("runs") + "/generation_benchmark";
    for (const auto& entry : fs::directory_iterator(parent)) return entry.path().string();
    return "";
  }

  static json status(const std::string& sweep) {
    return json::parse(read_whole(sweep + "/sweep.json"));
  }

  TemporaryFolder folder_;
};

TEST_F(SweepEnvironment, AKindThatIsNoneMakesNoFolderAnywhere) {
  const std::string config = folder_.write("a.yaml", small_sweep(kThreeCases, "{random: 11}", "../escaped/kind"));
  const ProgramResult result = start(config);
  EXPECT_EQ(result.exit_code, 4) << result.err;
  EXPECT_THAT(result.err, HasSubstr("../escaped/kind"));
  EXPECT_FALSE(fs::exists(folder_.file("escaped")));
  const std::string with_plugins =
      folder_.write("b.yaml", small_sweep(kThreeCases, "{random: 11}", "../escaped/kind") + "plugins: [none.so]\n");
  EXPECT_EQ(start(with_plugins).exit_code, 4);
  EXPECT_FALSE(fs::exists(folder_.file("escaped")));
}

// A file that is away for a while during a sweep.
TEST_F(SweepEnvironment, AFileThatIsAwayStopsTheSweepAndTheCaseRunsAtTheNextResume) {
  const std::string prompts =
      folder_.write("prompts.jsonl", "{\"ids\": [1, 2, 3, 4, 5, 6, 7, 8]}\n");
  const std::string config = folder_.write(
      "a.yaml", small_sweep(kThreeCases, "{jsonl: prompts.jsonl, line: 1}"));
  const auto sweep =
      SweepFolder::create(folder_.file("runs"), config, {}, {}, {"kvlab"}, whole_registry);
  int loaded = 0;
  const RegistryFactory remove_before_second = [&] {
    if (++loaded == 2) fs::rename(prompts, prompts + ".away");
    return whole_registry();
  };
  std::ostringstream out, log;
  EXPECT_THROW(run_sweep(*sweep, remove_before_second, {}, out, log), MissingError);
  EXPECT_EQ(sweep->counts().ok, 1) << log.str();
  EXPECT_EQ(sweep->counts().failed, 0);
  EXPECT_EQ(sweep->counts().missing, 2);
  EXPECT_EQ(status(sweep->path()).at("status"), "failed");
  fs::rename(prompts + ".away", prompts);
  EXPECT_EQ(run_sweep(*sweep, whole_registry, {}, out, log), 0) << log.str();
  EXPECT_EQ(sweep->counts().ok, 3);
}

TEST_F(SweepEnvironment, AnotherInstructionSetIsAnotherProgram) {
  const Words targets = kernels::available_targets();
  if (targets.size() < 2) GTEST_SKIP() << "this CPU runs one instruction set";
  const Words first = {"/usr/bin/env", "KVLAB_SIMD_TARGET=" + targets.front()};
  const Words last = {"/usr/bin/env", "KVLAB_SIMD_TARGET=" + targets.back()};
  ASSERT_EQ(start(folder_.write("a.yaml", small_sweep()), {}, first).exit_code, 0);
  const std::string path = sweep_folder();
  EXPECT_THAT(status(path).at("code").get<std::string>(), HasSubstr(", LibTorch "));
  const ProgramResult refused = kvlab({"sweep", "--resume", path}, last);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("kernels " + targets.back() + ". Cases of two programs"));
  EXPECT_EQ(kvlab({"sweep", "--resume", path}, first).exit_code, 0);
}

TEST_F(SweepEnvironment, WhatSbatchRefusesIsKeptInTheSweepsStatus) {
  const std::string sbatch = folder_.write("sbatch",
                                           "#!/bin/sh\ncase \"$*\" in *aggregate*) ;; "
                                           "*) [ -e \"$0.takes\" ] && echo 17 && exit 0;; esac\n"
                                           "echo no such partition >&2\nexit 1\n");
  fs::permissions(sbatch, fs::perms::owner_all);
  const Words before = {"/usr/bin/env", "PATH=" + folder_.file("") + ":/usr/bin:/bin"};
  const std::string config = folder_.write("a.yaml", small_sweep());
  const ProgramResult refused = start(config, {"--launcher", "slurm"}, before);
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  const json none = status(sweep_folder());
  EXPECT_EQ(none.at("status"), "failed");
  EXPECT_EQ(none.at("exit_code"), 2);
  EXPECT_THAT(none.at("message").get<std::string>(), HasSubstr("no such partition"));
  folder_.write("sbatch.takes", "");
  const Words again = {"sweep", "--resume", sweep_folder(), "--launcher", "slurm"};
  EXPECT_EQ(kvlab(again, before).exit_code, 2);
  EXPECT_THAT(status(sweep_folder()).at("message").get<std::string>(),
              HasSubstr("Jobs submitted before: 17"));
}

TEST_F(SweepEnvironment, TheReportsCommandRepeatsTheSweepInAShell) {
  fs::create_directory(folder_.file("a folder"));
  const std::string config = folder_.write("a folder/it's.yaml", small_sweep());
  const ProgramResult first =
      start(config, {"question=It's $HOME; a \"name\"", "-m", "measure.seed=1,2"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const std::string path = sweep_folder();
  const json report = json::parse(read_whole(path + "/report/document.json"));
  const json planned = json::parse(read_whole(path + "/planned.json"));
  const std::string command = report.at("command");
  EXPECT_THAT(command, HasSubstr("--runs"));
  fs::remove_all(path);
  const ProgramResult again = run_program({"/bin/sh", "-c", command});
  ASSERT_EQ(again.exit_code, 0) << command << "\n" << again.err;
  const json repeated = json::parse(read_whole(sweep_folder() + "/planned.json"));
  EXPECT_EQ(repeated.at("argv"), planned.at("argv"));
  EXPECT_EQ(repeated.at("plan"), planned.at("plan"));
}

TEST_F(SweepEnvironment, DataThatAreReplacedDuringACaseLeaveItMissing) {
  const std::string planned_text = "{\"ids\": [1, 2, 3, 4, 5, 6, 7, 8]}\n";
  const std::string other_text = "{\"ids\": [8, 7, 6, 5, 4, 3, 2, 1]}\n";
  folder_.write("prompts.jsonl", planned_text);
  const std::string config = folder_.write(
      "a.yaml", small_sweep(kThreeCases, "{jsonl: prompts.jsonl, line: 1}"));
  const auto sweep =
      SweepFolder::create(folder_.file("runs"), config, {}, {}, {"kvlab"}, whole_registry);
  int loaded = 0;
  const RegistryFactory replace_before_second = [&] {
    if (++loaded == 2) folder_.write("prompts.jsonl", other_text);
    return whole_registry();
  };
  std::ostringstream out, log;
  std::string refusal;
  try {
    run_sweep(*sweep, replace_before_second, {}, out, log);
  } catch (const UserError& error) {
    refusal = error.what();
  }
  EXPECT_THAT(refusal, HasSubstr("case 1 (block_size=16) was dropped: data changed"));
  EXPECT_THAT(refusal, HasSubstr("prompts.jsonl' had fingerprint"));
  EXPECT_EQ(loaded, 2) << "no further case is tried";
  EXPECT_EQ(sweep->counts().ok, 1) << log.str();
  EXPECT_EQ(sweep->counts().missing, 2);
  EXPECT_FALSE(fs::exists(sweep->folder_of(sweep->at(1)) + ".partial"));
  folder_.write("prompts.jsonl", planned_text);
  EXPECT_EQ(run_sweep(*sweep, whole_registry, {}, out, log), 0) << log.str();
  EXPECT_EQ(sweep->counts().ok, 3);
}

}  // namespace

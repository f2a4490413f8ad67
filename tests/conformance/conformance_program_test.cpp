// The program kvlab_conformance_tests, started as a user starts it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "kvlab/conformance/random_operations.h"
#include "tests/fixtures/run_program.h"

namespace kvlab::conformance {
namespace {

namespace fs = std::filesystem;

const std::string kProgram = std::string(KVLAB_BINARY_DIR) + "/bin/kvlab_conformance_tests";
const std::string kForgetful = std::string(KVLAB_BINARY_DIR) + "/test-plugins/forgetful.so";

ProgramResult start(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kProgram);
  return run_program(arguments, 300);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::string last_line(const std::string& text) {
  const size_t end = text.find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const size_t start = text.rfind('\n', end);
  return text.substr(start + 1, end - start);
}

class ConformanceProgram : public testing::Test {
 protected:
  ConformanceProgram()
      : folder_(fs::temp_directory_path() / ("kvlab_program_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~ConformanceProgram() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& text) const {
    const fs::path file = folder_ / name;
    std::ofstream(file) << text;
    return file.string();
  }

  // A fork and a step that feeds one token: what the cache `spec` makes of them.
  std::string replay_of(const std::string& spec) const {
    Replay replay;
    replay.chosen.name = "by_hand";
    replay.chosen.spec = spec;
    replay.chosen.shape = small_shape();
    Operation fork, step;
    fork.kind = Operation::Kind::fork;
    fork.other = 1;
    step.tokens = {-1, 1, -1};
    replay.operations = {fork, step};
    return write("by_hand.replay", write_replay(replay));
  }

  fs::path folder_;
};

TEST_F(ConformanceProgram, ReplaysASoundCache) {
  const ProgramResult result = start({"--replay", replay_of("paged:block_size=2")});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(contains(result.out, "1  fork from=0 to=1")) << result.out;
  EXPECT_TRUE(contains(result.out, "2  step first=0 tokens=-,1,-  lengths 0 1 0  passed"))
      << result.out;
  EXPECT_EQ(last_line(result.out), "2 operations passed");
}

TEST_F(ConformanceProgram, ReplaysAFailureOfAPluginLibrary) {
  const ProgramResult result =
      start({"--plugin", kForgetful, "--replay", replay_of("forgetful:fault=fork")});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_TRUE(contains(result.out, "passed\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "FAILED\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "failed: operation 2 (step first=0 tokens=-,1,-): "))
      << result.out;
}

TEST_F(ConformanceProgram, RefusesAReplayThatItCannotRun) {
  const std::string unknown_cache = replay_of("pagd");
  ProgramResult result = start({"--replay", unknown_cache});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(contains(result.err, "paged")) << result.err;
  result = start({"--replay", write("bad.replay", "kvlab replay 1\nend\n")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(contains(result.err, "line 2: ")) << result.err;
  result = start({"--replay", (folder_ / "missing.replay").string()});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_TRUE(contains(result.err, "missing.replay")) << result.err;
  EXPECT_EQ(start({"--replay", folder_.string()}).exit_code, 2);
}

TEST_F(ConformanceProgram, RefusesWrongFlagsWithTheReason) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--tabel"}, "unknown argument '--tabel'. Did you mean '--table'?"},
      {{"paged"}, "unknown argument 'paged'."},
      {{"--only"}, "--only needs a value"},
      {{"--only", "--table"}, "--only needs a value"},
      {{"--only="}, "--only needs a value"},
      {{"--only", "pagd"}, "--only names an unknown plugin 'pagd'. Did you mean 'paged'?"},
      {{"--operations", "0"}, "--operations must be a whole number of at least 1, got '0'"},
      {{"--operations", "1e4"}, "--operations must be a whole number of at least 1, got '1e4'"},
      {{"--seed", "x"}, "--seed must be a whole number of at least 0, got 'x'"},
      {{"--seed", "1", "--seed", "2"}, "--seed is given twice"},
      {{"--table=yes"}, "--table takes no value"},
      {{"--long", "--operations", "5"}, "--long and --operations contradict each other"},
      {{"--replay", "a", "--table"}, "--replay runs no tests"},
      {{"--replay", "a", "--write-traces", "b"}, "--replay and --write-traces contradict"},
      {{"--plugin", "missing.so"}, "missing.so"},
      {{"--gtest_filte=*"}, "--gtest_filte"},
  };
  for (const auto& [arguments, message] : cases) {
    const ProgramResult result = start(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments[0] << "\n" << result.out;
    EXPECT_TRUE(contains(result.err, message)) << arguments[0] << "\n" << result.err;
  }
}

TEST_F(ConformanceProgram, ExplainsItself) {
  const ProgramResult result = start({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  for (const std::string flag : {"--plugin", "--only", "--replay", "--operations", "--long",
                                 "--seed", "--replays", "--table", "--write-traces"}) {
    EXPECT_TRUE(contains(result.out, flag + " ")) << flag;
  }
}

TEST_F(ConformanceProgram, FailsWhereNoTestRan) {
  EXPECT_EQ(start({"--gtest_filter=NoSuchSuite.*"}).exit_code, 3);
}

TEST_F(ConformanceProgram, TestsOnlyWhatIsAskedFor) {
  const ProgramResult result = start({"--only", "paged", "--gtest_list_tests"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_TRUE(contains(result.out, "paged")) << result.out;
  EXPECT_FALSE(contains(result.out, "concat")) << result.out;
  const ProgramResult position = start({"--only", "rope", "--gtest_list_tests"});
  EXPECT_EQ(position.exit_code, 0) << position.err;
  EXPECT_FALSE(contains(position.out, "CacheConformance")) << position.out;
  EXPECT_TRUE(contains(position.out, "PositionConformance")) << position.out;
}

TEST_F(ConformanceProgram, ShowsATableOfAPluginLibrary) {
  const ProgramResult result =
      start({"--plugin", kForgetful, "--table", "--operations", "2000", "--replays",
             folder_.string(), "--gtest_filter=*forgetful_f32_G3/*-*Abort*"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_TRUE(contains(result.out, "CacheConformance")) << result.out;
  EXPECT_TRUE(contains(result.out, "  passed  failed  left out\n")) << result.out;
  EXPECT_TRUE(contains(result.out, "\n  CacheConformance.forgetful_f32_G3/")) << result.out;
  EXPECT_TRUE(contains(result.out, "run it again: ")) << result.out;
  EXPECT_FALSE(contains(result.out, "[ RUN ")) << result.out;
  EXPECT_FALSE(contains(result.out, "paged")) << result.out;
  const std::string last = last_line(result.out);
  EXPECT_TRUE(contains(last, " passed, ") && last.ends_with(" left out")) << last;
  EXPECT_FALSE(contains(last, " 0 failed")) << last;
}

TEST_F(ConformanceProgram, ASoundPluginLibraryPasses) {
  const ProgramResult result = start({"--plugin", kForgetful, "--table", "--operations", "200",
                                      "--gtest_filter=*fault_none_f32_G3/*"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_TRUE(contains(last_line(result.out), " passed, 0 failed, 0 left out")) << result.out;
}

TEST_F(ConformanceProgram, CountsWhatIsLeftOutInItsOwnSuite) {
  const ProgramResult result = start({"--only", "alibi", "--only", "eager", "--table"});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  // Attentions and positions have a property of this name.
  std::vector<std::string> rows;
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name, passed, failed, left_out;
    words >> name >> passed >> failed >> left_out;
    if (name == "IsRepeatableToTheBit") rows.push_back(passed + " " + failed + " " + left_out);
  }
  EXPECT_EQ(rows, (std::vector<std::string>{"1 0 0", "0 0 1"})) << result.out;
}

TEST_F(ConformanceProgram, NamesTheTestInWhichAPluginCrashesOrExits) {
  const std::string fork = "/ForkReplacesWhatTheTargetHeld";
  ProgramResult result = start({"--plugin", kForgetful, "--table",
                                "--gtest_filter=*forgetful_fault_abort_f32_G3" + fork});
  EXPECT_EQ(result.exit_code, 128 + 6) << result.out;
  EXPECT_TRUE(contains(result.err, "crashed (abort) in "
                                   "CacheConformance.forgetful_fault_abort_f32_G3" + fork))
      << result.err;
  result = start({"--plugin", kForgetful, "--table",
                  "--gtest_filter=*forgetful_fault_exit_f32_G3" + fork});
  EXPECT_EQ(result.exit_code, 4) << result.out;
  EXPECT_TRUE(contains(result.err, "ended by exit() in "
                                   "CacheConformance.forgetful_fault_exit_f32_G3" + fork))
      << result.err;
}

TEST_F(ConformanceProgram, WritesTraces) {
  const ProgramResult result =
      start({"--only", "paged", "--write-traces", (folder_ / "traces").string()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(fs::exists(folder_ / "traces/cache/paged/trace.txt"));
  EXPECT_TRUE(fs::exists(folder_ / "traces/cache/paged/left_out.txt"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "traces/cache"), {}), 1);
  EXPECT_EQ(start({"--only", "paged", "--write-traces", "/dev/null/here"}).exit_code, 2);
}

}  // namespace
}  // namespace kvlab::conformance

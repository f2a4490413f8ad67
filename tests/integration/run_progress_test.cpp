// The bar of a run on a terminal: kinds say how much there is to do, and do that much.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <regex>

#include "tests/fixtures/run_config.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/terminal.h"

extern char** environ;

namespace kvlab {
namespace {

using testing::HasSubstr;
using testing::Not;
using Words = std::vector<std::string>;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";

// Runs with standard error on a terminal; returns what it shows.
std::string shown_by(Words words, test::Terminal& terminal, int& code) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, terminal.slave(), STDERR_FILENO);
  setenv("TERM", "xterm", 1);
  pid_t process = -1;
  const int failure = posix_spawn(&process, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  terminal.close_slave();
  if (failure != 0) return "cannot start";
  std::string shown = terminal.read_to_end();
  int status = 0;
  waitpid(process, &status, 0);
  code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return shown;
}

// "done/total" of the last bar.
std::pair<int, int> last_count(const std::string& shown) {
  static const std::regex kBar(R"(\] (\d+)/(\d+))");
  std::pair<int, int> count{-1, -2};
  for (std::sregex_iterator bar(shown.begin(), shown.end(), kBar), end; bar != end; ++bar) {
    count = {std::stoi((*bar)[1]), std::stoi((*bar)[2])};
  }
  return count;
}

TEST(RunProgressOfKinds, ABarCountsToTheEndOfTheRun) {
  const std::string configs = KVLAB_SOURCE_DIR "/configs/experiments/";
  const std::vector<Words> runs = {{"teaching_toy", "measure.repeats=2"},
                                   {"conversation_tiny", "measure.repeats=2"},
                                   {"shared_prompt_tiny", "measure.repeats=2"},
                                   {"quality_tiny"}};
  for (const Words& run : runs) {
    test::Terminal terminal;
    if (!terminal.there()) GTEST_SKIP() << "this machine gives no terminal";
    const test::TemporaryFolder folder;
    Words words = {kBinary, "run", configs + run.front() + ".yaml", "--runs", folder.file("runs")};
    words.insert(words.end(), run.begin() + 1, run.end());
    int code = -1;
    const std::string shown = shown_by(words, terminal, code);
    EXPECT_EQ(code, 0) << run.front() << "\n" << shown;
    const auto [done, total] = last_count(shown);
    EXPECT_GT(total, 1) << run.front();
    EXPECT_EQ(done, total) << run.front() << "\n" << shown;
    EXPECT_THAT(shown, Not(HasSubstr("\x1b"))) << run.front();
  }
}

TEST(RunProgressOfKinds, ALogHasNoBar) {
  const test::TemporaryFolder folder;
  const ProgramResult result =
      run_program({kBinary, "run", KVLAB_SOURCE_DIR "/configs/experiments/isolated_arms.yaml",
                   "--runs", folder.file("runs"), "measure.repeats=2"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("block 2"));
  EXPECT_THAT(result.err, Not(HasSubstr("\r")));
  EXPECT_THAT(result.err, Not(HasSubstr("[#")));
}

}  // namespace
}  // namespace kvlab

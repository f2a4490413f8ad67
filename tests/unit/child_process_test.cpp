#include "kvlab/runtime/child_process.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
#include "tests/fixtures/model_file_writer.h"

namespace {

using namespace kvlab;
using Reading = ChildProcess::Reading;

std::vector<std::string> shell(const std::string& script) { return {"/bin/sh", "-c", script}; }

ChildProcess::Clock::time_point after(double seconds) {
  return ChildProcess::Clock::now() + std::chrono::duration_cast<ChildProcess::Clock::duration>(
                                          std::chrono::duration<double>(seconds));
}

size_t open_descriptors() {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    (void)entry;
    ++count;
  }
  return count;
}

// Whether this process has a child, alive or not waited for.
bool has_children() {
  siginfo_t info{};
  return ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

// With a folder for the children's logs.
class ChildProcessTest : public ::testing::Test {
 protected:
  std::string log_file() const { return (folder_.path() / "child.log").string(); }

  std::string read_log() const {
    std::ifstream file(log_file());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

 private:
  kvlab::testing::TemporaryFolder folder_;
};

TEST_F(ChildProcessTest, TalksLineByLineWhateverTheChildPrints) {
  ChildProcess child(
      shell("while read line <&3; do echo noise; echo more >&2; echo \"got $line\" >&3; done"),
      log_file());
  std::string line;
  for (const std::string& sent : {std::string("one"), std::string(3000, 'x')}) {
    ASSERT_TRUE(child.send(sent));
    ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
    EXPECT_EQ(line, "got " + sent);
  }
  const ChildEnd end = child.finish(20);
  EXPECT_EQ(end.signal, 0);
  EXPECT_EQ(read_log(), "noise\nmore\nnoise\nmore\n");
}

TEST_F(ChildProcessTest, KeepsLinesApartThatCameTogether) {
  ChildProcess child(shell("printf 'a\\nb\\nc' >&3"), log_file());
  std::string line;
  ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
  EXPECT_EQ(line, "a");
  ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
  EXPECT_EQ(line, "b");
  EXPECT_EQ(child.read_line(line, after(20)), Reading::closed) << "a line without an end is none";
}

TEST_F(ChildProcessTest, HasNoOtherDescriptorsThanItsOwn) {
  const int pipe = ::dup(STDERR_FILENO);  // inherited by a child that closes nothing
  // Without a pipe or a redirection of `ls`, for which the shell would hold descriptors.
  ChildProcess child(shell("exec >&3; ls -m /proc/$$/fd; true"), log_file());
  std::string line;
  ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
  EXPECT_EQ(line, "0, 1, 2, 3");
  ::close(pipe);
}

TEST_F(ChildProcessTest, ReportsHowTheChildEnded) {
  std::string line;
  ChildProcess left(shell("exit 7"), log_file());
  EXPECT_EQ(left.read_line(line, after(20)), Reading::closed);
  EXPECT_EQ(left.finish(20).exit_code, 7);

  ChildProcess crashed(shell("kill -SEGV $$"), log_file());
  EXPECT_EQ(crashed.read_line(line, after(20)), Reading::closed);
  const ChildEnd end = crashed.finish(20);
  EXPECT_EQ(end.signal, SIGSEGV);
  EXPECT_EQ(describe_signal(end.signal), "signal 11 (segmentation fault)");
  EXPECT_GT(end.peak_resident_bytes, 0);
}

TEST_F(ChildProcessTest, ADeadlineThatPassesLeavesTheChildToItsEndByForce) {
  const auto start = ChildProcess::Clock::now();
  ChildProcess child(shell("while true; do :; done"), log_file());
  std::string line;
  EXPECT_EQ(child.read_line(line, after(0.3)), Reading::timed_out);
  const ChildEnd end = child.finish(0);
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_GT(end.cpu_seconds, 0);
  EXPECT_LT(ChildProcess::Clock::now() - start, std::chrono::seconds(20));
}

TEST_F(ChildProcessTest, EndsTheWholeGroup) {
  ChildProcess child(shell("sleep 300 & echo $! >&3; exit 0"), log_file());
  std::string line;
  ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
  const pid_t grandchild = std::stoi(line);
  // The grandchild holds the line open: only the child's own end tells.
  EXPECT_EQ(child.read_line(line, after(20)), Reading::closed);
  EXPECT_EQ(child.finish(20).exit_code, 0);
  std::string state;
  for (int wait = 0; wait < 200; ++wait) {
    std::ifstream status("/proc/" + std::to_string(grandchild) + "/stat");
    state.clear();
    status >> state >> state >> state;
    if (state.empty() || state == "Z") break;  // gone, or left to whoever reaps orphans here
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(state.empty() || state == "Z") << state;
}

TEST_F(ChildProcessTest, ALineWithoutAnEndIsRefusedInTime) {
  ChildProcess child(shell("exec cat /dev/zero >&3"), log_file());
  std::string line;
  EXPECT_EQ(child.read_line(line, after(60)), Reading::too_long);
}

TEST_F(ChildProcessTest, SendingToAChildThatHasGoneIsNoSignalButAnAnswer) {
  ChildProcess child(shell("exit 0"), log_file());
  std::string line;
  EXPECT_EQ(child.read_line(line, after(20)), Reading::closed);
  EXPECT_FALSE(child.send("anybody there?"));
}

TEST_F(ChildProcessTest, AnInterruptionEndsTheWaiting) {
  ChildProcess child(shell("sleep 300"), log_file());
  request_interrupt();
  std::string line;
  EXPECT_THROW(child.read_line(line, after(20)), InterruptedError);
  clear_interrupt();
}

TEST_F(ChildProcessTest, LeavesNeitherDescriptorsNorZombies) {
  const size_t before = open_descriptors();
  for (int round = 0; round < 5; ++round) {
    ChildProcess left(shell("exit 0"), log_file());
    ChildProcess running(shell("sleep 300"), log_file());
    ChildProcess crashed(shell("kill -ABRT $$"), log_file());
    std::string line;
    EXPECT_EQ(crashed.read_line(line, after(20)), Reading::closed);
    crashed.finish(20);
  }
  EXPECT_THROW(ChildProcess({"/no/such/program"}, log_file()), UserError);
  EXPECT_THROW(ChildProcess(shell("exit 0"), "/no/such/folder/log"), UserError);
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_FALSE(has_children());
}

TEST_F(ChildProcessTest, ItsOutputIsTheLineWhereItHasNoLog) {
  ChildProcess child(shell("ls -m /proc/$$/fd; printf rest; setsid sleep 20 2>&- &"));
  std::string line;
  ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
  EXPECT_EQ(line, "0, 1, 2");
  EXPECT_EQ(child.read_line(line, after(15)), Reading::closed) << "the sleeper holds the line open";
  EXPECT_EQ(child.take_rest(), "rest");
  const ChildEnd end = child.finish(20);
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_FALSE(end.stopped);
}

TEST_F(ChildProcessTest, AnEndThatNobodyCanAskForIsAnErrorAndNoSuccess) {
  struct Ignored {
    Ignored() { std::signal(SIGCHLD, SIG_IGN); }
    ~Ignored() { std::signal(SIGCHLD, SIG_DFL); }
  } ignored;
  {
    ChildProcess child(shell("exit 0"), log_file());
    EXPECT_THROW(child.finish(20), InternalError);
  }
  ChildProcess left(shell("exit 0"), log_file());  // its destructor throws nothing
  prepare_process();
  EXPECT_EQ(std::signal(SIGCHLD, SIG_DFL), SIG_DFL);
  ChildProcess child(shell("exit 3"), log_file());
  EXPECT_EQ(child.finish(20).exit_code, 3);
}

TEST_F(ChildProcessTest, SaysWhatCannotBeStarted) {
  try {
    ChildProcess child({"/no/such/program"}, log_file());
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[runtime.child_process] '/no/such/program' cannot be started with its output in '" +
                  log_file() + "': No such file or directory");
  }
}

TEST_F(ChildProcessTest, TheOtherEndIsRefusedToProgramsNobodyStartedSo) {
  EXPECT_THROW(ParentConnection(1), UserError);
}

TEST_F(ChildProcessTest, LastLinesAreShortAndPrintable) {
  std::ofstream(log_file(), std::ios::binary)
      << "first\n\nsecond\n"
      << std::string(5000, 'x') << "\nred \x1b[31m\x01 \xff\xfe\nlast";
  const std::vector<std::string> lines = last_lines(log_file(), 4);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0], "second");
  EXPECT_EQ(lines[1], std::string(200, 'x') + " ...");
  EXPECT_EQ(lines[2], "red ?[31m? ??");
  EXPECT_EQ(lines[3], "last");
  EXPECT_TRUE(last_lines("/no/such/file", 4).empty());
}

}  // namespace

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

namespace {

using namespace kvlab;
using Reading = ChildProcess::Reading;

std::string log_file() {
  return (std::filesystem::temp_directory_path() /
          ("kvlab-child-" + std::to_string(::getpid()) + ".log"))
      .string();
}

std::vector<std::string> shell(const std::string& script) { return {"/bin/sh", "-c", script}; }

ChildProcess::Clock::time_point after(double seconds) {
  return ChildProcess::Clock::now() + std::chrono::duration_cast<ChildProcess::Clock::duration>(
                                          std::chrono::duration<double>(seconds));
}

std::string read_log() {
  std::ifstream file(log_file());
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
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

TEST(ChildProcess, TalksLineByLineWhateverTheChildPrints) {
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

TEST(ChildProcess, KeepsLinesApartThatCameTogether) {
  ChildProcess child(shell("printf 'a\\nb\\nc' >&3"), log_file());
  std::string line;
  ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
  EXPECT_EQ(line, "a");
  ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
  EXPECT_EQ(line, "b");
  EXPECT_EQ(child.read_line(line, after(20)), Reading::closed) << "a line without an end is none";
}

TEST(ChildProcess, HasNoOtherDescriptorsThanItsOwn) {
  const int pipe = ::dup(STDERR_FILENO);  // inherited by a child that closes nothing
  ChildProcess child(shell("ls /proc/$$/fd | tr '\\n' ' ' >&3; echo >&3"), log_file());
  std::string line;
  ASSERT_EQ(child.read_line(line, after(20)), Reading::line);
  EXPECT_EQ(line, "0 1 2 3 ");
  ::close(pipe);
}

TEST(ChildProcess, ReportsHowTheChildEnded) {
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

TEST(ChildProcess, ADeadlineThatPassesLeavesTheChildToItsEndByForce) {
  const auto start = ChildProcess::Clock::now();
  ChildProcess child(shell("while true; do :; done"), log_file());
  std::string line;
  EXPECT_EQ(child.read_line(line, after(0.3)), Reading::timed_out);
  const ChildEnd end = child.finish(0);
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_GT(end.cpu_seconds, 0);
  EXPECT_LT(ChildProcess::Clock::now() - start, std::chrono::seconds(20));
}

TEST(ChildProcess, EndsTheWholeGroup) {
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

TEST(ChildProcess, ALineWithoutAnEndIsRefusedInTime) {
  ChildProcess child(shell("exec cat /dev/zero >&3"), log_file());
  std::string line;
  EXPECT_EQ(child.read_line(line, after(60)), Reading::too_long);
}

TEST(ChildProcess, SendingToAChildThatHasGoneIsNoSignalButAnAnswer) {
  ChildProcess child(shell("exit 0"), log_file());
  std::string line;
  EXPECT_EQ(child.read_line(line, after(20)), Reading::closed);
  EXPECT_FALSE(child.send("anybody there?"));
}

TEST(ChildProcess, AnInterruptionEndsTheWaiting) {
  ChildProcess child(shell("sleep 300"), log_file());
  request_interrupt();
  std::string line;
  EXPECT_THROW(child.read_line(line, after(20)), InterruptedError);
  clear_interrupt();
}

TEST(ChildProcess, LeavesNeitherDescriptorsNorZombies) {
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

TEST(ChildProcess, SaysWhatCannotBeStarted) {
  try {
    ChildProcess child({"/no/such/program"}, log_file());
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[runtime.child_process] '/no/such/program' cannot be started with its output in '" +
                  log_file() + "': No such file or directory");
  }
}

TEST(ChildProcess, TheOtherEndIsRefusedToProgramsNobodyStartedSo) {
  EXPECT_THROW(ParentConnection(1), UserError);
}

TEST(ChildProcess, LastLinesAreShortAndPrintable) {
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
  std::filesystem::remove(log_file());
}

}  // namespace

#include "kvlab/runtime/run_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <sstream>

#include "kvlab/runtime/run_log.h"
#include "tests/fixtures/terminal.h"

namespace kvlab {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

// Standard error goes elsewhere as long as this lives.
class StandardErrorInto {
 public:
  explicit StandardErrorInto(int descriptor) : kept_(dup(STDERR_FILENO)) {
    dup2(descriptor, STDERR_FILENO);
  }
  ~StandardErrorInto() {
    std::cerr.flush();
    dup2(kept_, STDERR_FILENO);
    close(kept_);
  }

 private:
  int kept_;
};

std::string log_path() {
  return testing::TempDir() + "run_progress_" + std::to_string(getpid()) + ".txt";
}

// What a terminal of the given kind shows of a run of four units with one line.
std::string shown_on(test::Terminal& terminal, const char* kind) {
  setenv("TERM", kind, 1);
  {
    const StandardErrorInto into(terminal.slave());
    RunLog log(std::cerr, log_path());
    RunProgress progress("toy", log, {.draws = true, .quiet_seconds = 0, .quiet_percent = 1});
    progress.begin(4);
    progress.advance(1);
    log.stream() << "a line\n";
    progress.advance(3);
  }
  terminal.close_slave();
  std::filesystem::remove(log_path());
  return terminal.read_to_end();
}

// Each redrawing begins with a carriage return: what is on the last line after `text`.
std::string last_line(const std::string& text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n') line.clear();
    line += c;
  }
  std::string visible;
  size_t place = 0;
  for (const char c : line) {
    if (c == '\r' || c == '\n') {
      place = 0;
      continue;
    }
    if (place == visible.size()) visible += ' ';
    visible[place++] = c;
  }
  while (!visible.empty() && visible.back() == ' ') visible.pop_back();
  return visible;
}

TEST(RunProgress, IsABarBelowTheLinesOfATerminal) {
  test::Terminal terminal;
  if (!terminal.there()) GTEST_SKIP() << "this machine gives no terminal";
  const std::string shown = shown_on(terminal, "xterm");
  EXPECT_THAT(shown, HasSubstr("\rtoy [" + std::string(7, '#') + std::string(23, '.') +
                               "] 1/4, 1 s left"));
  EXPECT_THAT(shown, HasSubstr("\rtoy [" + std::string(30, '#') + "] 4/4"));
  EXPECT_THAT(shown, Not(HasSubstr("\x1b"))) << "no colour and no escape sequence";
  // The line stands alone, and the bar is gone at the end.
  const size_t line = shown.find("a line");
  ASSERT_NE(line, std::string::npos);
  EXPECT_EQ(last_line(shown.substr(0, line)), "");
  EXPECT_EQ(last_line(shown), "");
}

TEST(RunProgress, IsLinesOnATerminalThatCannotRedraw) {
  test::Terminal terminal;
  if (!terminal.there()) GTEST_SKIP() << "this machine gives no terminal";
  const std::string shown = shown_on(terminal, "dumb");
  EXPECT_EQ(shown, "25 % done, 1 s left\r\na line\r\n");
}

TEST(RunProgress, IsLinesInALogAndNotTooMany) {
  std::ostringstream screen;
  {
    RunLog log(screen, log_path());
    RunProgress often("toy", log, {.draws = false, .quiet_seconds = 0, .quiet_percent = 25});
    often.begin(100);
    for (int i = 0; i < 100; ++i) often.advance(1);
  }
  EXPECT_EQ(screen.str(), "25 % done, 1 s left\n50 % done, 1 s left\n75 % done, 1 s left\n");
  screen.str("");
  {
    RunLog log(screen, log_path());
    RunProgress seldom("toy", log, {.draws = false, .quiet_seconds = 3600, .quiet_percent = 1});
    seldom.begin(100);
    seldom.advance(50);
    seldom.advance(90);  // more than there was
  }
  std::filesystem::remove(log_path());
  EXPECT_EQ(screen.str(), "");
}

}  // namespace
}  // namespace kvlab

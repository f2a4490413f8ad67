#include "kvlab/runtime/terminal_colour.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/fixtures/terminal.h"

namespace kvlab {
namespace {

// A terminal of its own, and the environment as it was at the end.
class TerminalColour : public testing::Test {
 protected:
  void SetUp() override {
    if (!terminal_.there()) GTEST_SKIP() << "this machine gives no terminal";
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
  }
  void TearDown() override { unsetenv("NO_COLOR"); }

  test::Terminal terminal_;
};

TEST_F(TerminalColour, IsShownOnATerminalUnlessSomeoneSaysNo) {
  EXPECT_TRUE(wants_colour(terminal_.slave()));
  setenv("NO_COLOR", "", 1);
  EXPECT_TRUE(wants_colour(terminal_.slave())) << "empty says nothing";
  setenv("NO_COLOR", "0", 1);
  EXPECT_FALSE(wants_colour(terminal_.slave())) << "any text says no";
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(wants_colour(terminal_.slave()));
  unsetenv("TERM");
  EXPECT_FALSE(wants_colour(terminal_.slave()));
}

TEST_F(TerminalColour, IsNeverWrittenToAFile) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_FALSE(wants_colour(ends[1]));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(TerminalColour, MarksVerdictsAndKeepsTheText) {
  EXPECT_EQ(coloured_verdicts("a: slower; b: faster"),
            "a: \x1b[31mslower\x1b[0m; b: \x1b[32mfaster\x1b[0m");
  EXPECT_EQ(coloured_verdicts("a runs faster than b"), "a runs faster than b");
}

}  // namespace
}  // namespace kvlab

#include "kvlab/runtime/terminal_colour.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

namespace kvlab {
namespace {

// A terminal of its own, and the environment as it was at the end.
class TerminalColour : public testing::Test {
 protected:
  void SetUp() override {
    master_ = posix_openpt(O_RDWR | O_NOCTTY);
    if (master_ < 0 || grantpt(master_) != 0 || unlockpt(master_) != 0)
      GTEST_SKIP() << "this machine gives no terminal";
    slave_ = open(ptsname(master_), O_RDWR | O_NOCTTY);
    ASSERT_GE(slave_, 0);
    unsetenv("NO_COLOR");
    setenv("TERM", "xterm", 1);
  }
  void TearDown() override {
    if (slave_ >= 0) close(slave_);
    if (master_ >= 0) close(master_);
    unsetenv("NO_COLOR");
  }
  int master_ = -1, slave_ = -1;
};

TEST_F(TerminalColour, IsShownOnATerminalUnlessSomeoneSaysNo) {
  EXPECT_TRUE(wants_colour(slave_));
  setenv("NO_COLOR", "", 1);
  EXPECT_TRUE(wants_colour(slave_)) << "empty says nothing";
  setenv("NO_COLOR", "0", 1);
  EXPECT_FALSE(wants_colour(slave_)) << "any text says no";
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(wants_colour(slave_));
  unsetenv("TERM");
  EXPECT_FALSE(wants_colour(slave_));
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

// The time that is left is told in the unit that a person would take.
#include "kvlab/runtime/time_left.h"

#include <gtest/gtest.h>

namespace {

using kvlab::time_left;

TEST(TimeLeft, GoesOnAtThePaceSoFar) {
  EXPECT_EQ(time_left(10, 1, 3), ", 20 s left");
  EXPECT_EQ(time_left(30, 3, 4), ", 10 s left");
  EXPECT_EQ(time_left(0.01, 1, 3), ", 1 s left") << "never none while something is left";
  EXPECT_EQ(time_left(60, 1, 6), ", 5 min left");
  EXPECT_EQ(time_left(3600, 2, 5), ", 1.5 h left");
}

TEST(TimeLeft, IsNotGuessedFromNothing) {
  EXPECT_EQ(time_left(10, 0, 3), "");
  EXPECT_EQ(time_left(10, 3, 3), "");
}

}  // namespace

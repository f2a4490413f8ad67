#include "none_position.h"

#include <gtest/gtest.h>

namespace kvlab::plugins {
namespace {

TEST(NonePosition, HasNoEndAndCanBeRebased) {
  const NonePosition position;
  EXPECT_EQ(position.traits().max_position, kUnlimitedPositions);
  EXPECT_TRUE(position.traits().can_rebase);
}

}  // namespace
}  // namespace kvlab::plugins

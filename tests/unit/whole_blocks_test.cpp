#include "kvlab/runtime/whole_blocks.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace kvlab {
namespace {

using Blocks = std::vector<std::size_t>;

TEST(WholeBlocks, ABlockInWhichAnArmStoodStillIsLeftOutForAll) {
  const WholeBlocks blocks = whole_blocks({{false, false, true, false}, {false, true, true, false}});
  EXPECT_EQ(blocks.kept, (Blocks{0, 3}));
  EXPECT_EQ(blocks.suspended, 2);
}

TEST(WholeBlocks, ABlockThatAnInterruptCutShortIsNotSuspendedAndNotThere) {
  const WholeBlocks blocks = whole_blocks({{false, false, true}, {false, false}});
  EXPECT_EQ(blocks.kept, (Blocks{0, 1}));
  EXPECT_EQ(blocks.suspended, 0);
  EXPECT_TRUE(whole_blocks({{false}, {}}).kept.empty());
  EXPECT_TRUE(whole_blocks({}).kept.empty());
}

TEST(WholeBlocks, SamplesOfOtherBlocksGo) {
  // Samples that can only be moved.
  std::vector<std::unique_ptr<int>> samples;
  for (int i = 0; i < 4; ++i) samples.push_back(std::make_unique<int>(i));
  keep_blocks(samples, WholeBlocks{{0, 3}, 1});
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(*samples[0], 0);
  EXPECT_EQ(*samples[1], 3);
}

}  // namespace
}  // namespace kvlab

#include "alibi_position.h"

#include <gtest/gtest.h>

#include <vector>

namespace kvlab::plugins {
namespace {

// The values the authors' reference code gives for 8 and 12 heads.
TEST(AlibiPosition, HasThePublishedSlopesForEightHeads) {
  const std::vector<float> slopes = alibi_slopes(8);
  const std::vector<float> published = {0.5F,     0.25F,     0.125F,     0.0625F,
                                        0.03125F, 0.015625F, 0.0078125F, 0.00390625F};
  EXPECT_EQ(slopes, published);
}

TEST(AlibiPosition, HasThePublishedSlopesForTwelveHeads) {
  const std::vector<float> slopes = alibi_slopes(12);
  const std::vector<float> published = {
      0.5F,       0.25F,       0.125F,      0.0625F,     0.03125F,    0.015625F,
      0.0078125F, 0.00390625F, 0.70710678F, 0.35355339F, 0.17677670F, 0.08838835F};
  ASSERT_EQ(slopes.size(), published.size());
  for (size_t i = 0; i < slopes.size(); ++i) EXPECT_FLOAT_EQ(slopes[i], published[i]) << i;
}

TEST(AlibiPosition, BiasesScoresAndCanBeRebased) {
  PositionShape shape;
  shape.n_heads = 4;
  const AlibiPosition position(shape);
  EXPECT_TRUE(position.traits().biases_scores);
  EXPECT_TRUE(position.traits().can_rebase);
}

}  // namespace
}  // namespace kvlab::plugins

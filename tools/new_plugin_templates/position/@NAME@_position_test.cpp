// What is special about @NAME@. What every encoding must do is tested by the conformance kit already.
#include "@NAME@_position.h"

#include <gtest/gtest.h>

namespace kvlab::plugins {
namespace {

TEST(@CLASS@Position, GivesEveryHeadTheSameSlope) {
  PositionShape shape;
  shape.n_heads = 6;
  const @CLASS@Position position(0.25, shape);
  ASSERT_EQ(position.score_slopes().size(), 6U);
  for (const float slope : position.score_slopes()) EXPECT_EQ(slope, 0.25F);
}

TEST(@CLASS@Position, BiasesScoresAndNothingElse) {
  PositionShape shape;
  shape.n_heads = 2;
  const @CLASS@Position position(0.25, shape);
  EXPECT_TRUE(position.traits().biases_scores);
  EXPECT_FALSE(position.traits().rotates);
  EXPECT_FALSE(position.traits().adds_to_embedding);
}

}  // namespace
}  // namespace kvlab::plugins

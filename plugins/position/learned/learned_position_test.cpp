#include "learned_position.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <string>

#include "kvlab/core/error.h"

namespace kvlab::plugins {
namespace {

PositionShape shape_with_table(int64_t context, int64_t width) {
  PositionShape shape;
  shape.d_model = width;
  shape.context = context;
  shape.table = at::arange(context * width, at::kFloat).view({context, width});
  return shape;
}

TEST(LearnedPosition, SaysWhereItsTableEnds) {
  const LearnedPosition position(shape_with_table(5, 3));
  EXPECT_EQ(position.traits().max_position, 5);
  EXPECT_FALSE(position.traits().can_rebase);
  at::Tensor embedding = at::zeros({5, 3}, at::kFloat);
  try {
    position.add_to_embedding(embedding, at::arange(1, 6, at::kLong));
    FAIL() << "position 5 does not exist";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[position.learned] position 5 is past the end: 5 positions exist. Shorten the text, "
              "or use a model with a longer context");
  }
}

TEST(LearnedPosition, RefusesOnePositionForSeveralTokens) {
  const LearnedPosition position(shape_with_table(5, 3));
  at::Tensor embedding = at::zeros({5, 3}, at::kFloat);
  try {
    position.add_to_embedding(embedding, at::arange(0, 1, at::kLong));
    FAIL() << "one position for five tokens";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[position.learned] positions for the embedding's tokens: got 1, wanted exactly 5");
  }
}

}  // namespace
}  // namespace kvlab::plugins

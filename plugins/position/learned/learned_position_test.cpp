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

TEST(LearnedPosition, AddsTheRowOfEachPosition) {
  const LearnedPosition position(shape_with_table(5, 3));
  at::Tensor embedding = at::zeros({2, 3}, at::kFloat);
  at::Tensor positions = at::zeros({2}, at::kLong);
  positions[0].fill_(4);
  positions[1].fill_(1);
  position.add_to_embedding(embedding, positions);
  const float* data = embedding.const_data_ptr<float>();
  EXPECT_EQ(std::vector<float>(data, data + 6), (std::vector<float>{12, 13, 14, 3, 4, 5}));
}

TEST(LearnedPosition, EndsWithItsTable) {
  const LearnedPosition position(shape_with_table(5, 3));
  EXPECT_EQ(position.traits().max_position, 5);
  EXPECT_FALSE(position.traits().can_rebase);
  at::Tensor embedding = at::zeros({5, 3}, at::kFloat);
  position.add_to_embedding(embedding, at::arange(0, 5, at::kLong));
  try {
    position.add_to_embedding(embedding, at::arange(1, 6, at::kLong));
    FAIL() << "position 5 does not exist";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[position.learned] position 5 is past the end: 5 positions exist. Shorten the text, "
              "or use a model with a longer context");
  }
  EXPECT_THROW(position.add_to_embedding(embedding, at::arange(-1, 4, at::kLong)), UserError);
}

TEST(LearnedPosition, NeedsATableOfTheModelsWidth) {
  PositionShape shape;
  shape.d_model = 3;
  EXPECT_THROW(LearnedPosition{shape}, UserError);
  shape = shape_with_table(5, 3);
  shape.d_model = 4;
  EXPECT_THROW(LearnedPosition{shape}, UserError);
}

}  // namespace
}  // namespace kvlab::plugins

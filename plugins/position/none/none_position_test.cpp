#include "none_position.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

namespace kvlab::plugins {
namespace {

TEST(NonePosition, ChangesNothing) {
  const NonePosition position;
  at::Tensor heads = at::ones({3, 2, 4});
  at::Tensor embedding = at::ones({3, 8});
  const at::Tensor positions = at::arange(1000000, 1000003, at::kLong);
  position.rotate(heads, positions);
  position.add_to_embedding(embedding, positions);
  EXPECT_TRUE(heads.eq(1).all().item<bool>());
  EXPECT_TRUE(embedding.eq(1).all().item<bool>());
  EXPECT_TRUE(position.score_slopes().empty());
}

TEST(NonePosition, HasNoEndAndCanBeRebased) {
  const NonePosition position;
  EXPECT_EQ(position.traits().max_position, kUnlimitedPositions);
  EXPECT_TRUE(position.traits().can_rebase);
}

}  // namespace
}  // namespace kvlab::plugins

#include "rope_position.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kvlab/core/error.h"

namespace kvlab::plugins {
namespace {

constexpr int64_t kDim = 10;

PositionShape head_shape() {
  PositionShape shape;
  shape.n_heads = 6;
  shape.head_dim = kDim;
  return shape;
}

at::Tensor random_heads(int64_t tokens, int64_t heads, unsigned seed) {
  at::Tensor made = at::zeros({tokens, heads, kDim}, at::kFloat);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < made.numel(); ++i) made.mutable_data_ptr<float>()[i] = normal(random);
  return made;
}

TEST(RopePosition, RotatesHalvesByTheFormula) {
  const RopePosition position(500, head_shape());
  const at::Tensor before = random_heads(3, 2, 3);
  at::Tensor after = before.clone();
  position.rotate(after, at::arange(4, 7, at::kLong));
  for (int64_t token = 0; token < 3; ++token) {
    for (int64_t head = 0; head < 2; ++head) {
      const int64_t base = (token * 2 + head) * kDim;
      for (int64_t i = 0; i < kDim / 2; ++i) {
        const double angle = static_cast<double>(4 + token) *
                             std::pow(500.0, -2.0 * static_cast<double>(i) / kDim);
        const double a = before.const_data_ptr<float>()[base + i];
        const double b = before.const_data_ptr<float>()[base + i + kDim / 2];
        EXPECT_NEAR(after.const_data_ptr<float>()[base + i],
                    a * std::cos(angle) - b * std::sin(angle), 1e-5);
        EXPECT_NEAR(after.const_data_ptr<float>()[base + i + kDim / 2],
                    b * std::cos(angle) + a * std::sin(angle), 1e-5);
      }
    }
  }
}

TEST(RopePosition, RotatesBf16InF32AndRoundsOnce) {
  const RopePosition position(10000, head_shape());
  at::Tensor half = random_heads(3, 2, 6).to(at::kBFloat16);
  at::Tensor single = half.to(at::kFloat);
  position.rotate(half, at::arange(20, 23, at::kLong));
  position.rotate(single, at::arange(20, 23, at::kLong));
  EXPECT_TRUE(half.equal(single.to(at::kBFloat16)));
}

TEST(RopePosition, RefusesAnOddHeadDimensionAndOtherShapes) {
  PositionShape shape = head_shape();
  shape.head_dim = 7;
  EXPECT_THROW(RopePosition(10000, shape), UserError);
  const RopePosition position(10000, head_shape());
  at::Tensor heads = at::zeros({2, 3, kDim + 2});
  EXPECT_THROW(position.rotate(heads, at::arange(2, at::kLong)), UserError);
  at::Tensor fewer = at::zeros({2, 3, kDim});
  EXPECT_THROW(position.rotate(fewer, at::arange(3, at::kLong)), UserError);
}

}  // namespace
}  // namespace kvlab::plugins

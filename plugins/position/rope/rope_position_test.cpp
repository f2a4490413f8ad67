#include "rope_position.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>
#include <vector>

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

// The same rotation written out, with angles as everywhere in fp32.
void rotate_one(float* head, int64_t dim, double theta, int64_t position) {
  for (int64_t i = 0; i < dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(dim);
    const float frequency = 1.0F / std::pow(static_cast<float>(theta), exponent);
    const float angle = static_cast<float>(position) * frequency;
    const float cosine = std::cos(angle), sine = std::sin(angle);
    const float a = head[i], b = head[i + dim / 2];
    head[i] = a * cosine - b * sine;
    head[i + dim / 2] = b * cosine + a * sine;
  }
}

TEST(RopePosition, GivesTheSameBitsFromItsTableAndBeyondIt) {
  constexpr int64_t kLast = RopePosition::kMostTabled - 1;
  for (const int64_t dim : {2, 10, 64, 130, 258}) {
    PositionShape shape = head_shape();
    shape.head_dim = dim;
    for (const int64_t context : {int64_t{0}, int64_t{7}, 3 * kLast}) {
      shape.context = context;
      const RopePosition position(10000, shape);
      for (const int64_t at : {int64_t{0}, int64_t{6}, int64_t{7}, kLast, kLast + 1, 2 * kLast}) {
        at::Tensor heads = at::ones({1, 1, dim});
        for (int64_t i = 0; i < dim; ++i) {
          heads.mutable_data_ptr<float>()[i] = 0.3F * static_cast<float>(i + 1);
        }
        at::Tensor wanted = heads.clone();
        position.rotate(heads, at::full({1}, at, at::kLong));
        rotate_one(wanted.mutable_data_ptr<float>(), dim, 10000, at);
        EXPECT_TRUE(heads.equal(wanted)) << "D " << dim << ", context " << context << ", at " << at;
      }
    }
  }
}

TEST(RopePosition, MayBeUsedBySeveralThreadsAtOnce) {
  PositionShape shape = head_shape();
  shape.context = 40;
  const RopePosition position(10000, shape);
  const at::Tensor before = random_heads(60, 3, 8);
  const at::Tensor places = at::arange(10, 70, at::kLong);  // in the table and beyond
  at::Tensor wanted = before.clone();
  position.rotate(wanted, places);
  std::vector<at::Tensor> results;
  for (int i = 0; i < 3; ++i) results.push_back(before.clone());
  std::vector<std::thread> threads;
  for (at::Tensor& result : results) {
    threads.emplace_back([&position, &places, &before, &result] {
      for (int round = 0; round < 50; ++round) {
        result.copy_(before);
        position.rotate(result, places);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& result : results) EXPECT_TRUE(result.equal(wanted));
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

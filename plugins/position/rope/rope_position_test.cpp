#include "rope_position.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kvlab/cache/kv_view.h"
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

at::Tensor one_position(int64_t position) { return at::zeros({1}, at::kLong).add(position); }

double score(const at::Tensor& query, const at::Tensor& key) {
  double sum = 0;
  for (int64_t d = 0; d < kDim; ++d) {
    sum += static_cast<double>(query.const_data_ptr<float>()[d]) * key.const_data_ptr<float>()[d];
  }
  return sum;
}

TEST(RopePosition, ScoresDependOnTheDistanceOnly) {
  const RopePosition position(10000, head_shape());
  const at::Tensor query = random_heads(1, 1, 1), key = random_heads(1, 1, 2);
  for (const int64_t distance : {0, 1, 7, 40}) {
    double first = 0;
    for (const int64_t shift : {0, 1, 5, 100, 1000}) {
      at::Tensor q = query.clone(), k = key.clone();
      position.rotate(q, one_position(shift + distance));
      position.rotate(k, one_position(shift));
      const double got = score(q, k);
      if (shift == 0) first = got;
      EXPECT_NEAR(got, first, 2e-3) << "distance " << distance << " shift " << shift;
    }
  }
  at::Tensor q = query.clone(), k = key.clone();
  position.rotate(q, one_position(9));
  EXPECT_GT(std::abs(score(q, k) - score(query, key)), 0.1);
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

TEST(RopePosition, LeavesPositionZeroAlone) {
  const RopePosition position(10000, head_shape());
  const at::Tensor before = random_heads(1, 3, 4);
  at::Tensor after = before.clone();
  position.rotate(after, one_position(0));
  EXPECT_TRUE(after.equal(before));
}

TEST(RopePosition, RotatesStridedHeadsInPlaceAndNothingBesides) {
  const RopePosition position(10000, head_shape());
  at::Tensor fused = random_heads(4, 5, 5);
  const at::Tensor before = fused.clone();
  at::Tensor part = fused.narrow(1, 2, 2);
  position.rotate(part, at::arange(4, at::kLong));
  at::Tensor alone = before.narrow(1, 2, 2).contiguous();
  position.rotate(alone, at::arange(4, at::kLong));
  EXPECT_TRUE(part.equal(alone));
  EXPECT_TRUE(fused.narrow(1, 0, 2).equal(before.narrow(1, 0, 2)));
  EXPECT_TRUE(fused.narrow(1, 4, 1).equal(before.narrow(1, 4, 1)));
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

// Keys kept before position, with a shift, come out as if they had been rotated at
// position + shift.
TEST(RopePosition, DenseViewRotatesKeysKeptBeforePosition) {
  const RopePosition position(10000, head_shape());
  constexpr int64_t kHeads = 3;
  const at::Tensor keys = random_heads(6, kHeads, 7);  // [T,G,D]
  const at::Tensor stored = keys.transpose(0, 1).contiguous();
  for (const int64_t shift : {0, 4, -2}) {
    KVView view;
    view.begin(kHeads, kDim, kDim);
    view.rotated = false;
    view.begin_slice();
    for (const int64_t first : {0, 2}) {
      KVSegment run;
      run.count = first == 0 ? 2 : 4;
      run.first_position = 10 + first;
      run.rotary_shift = shift;
      run.head_end = kHeads;
      run.keys = {stored.const_data_ptr<float>() + first * kDim, kDim, 6 * kDim, at::kFloat};
      run.values = run.keys;
      view.add(run);
    }
    StorageArena scratch;
    const DenseKV dense = view.dense(0, position, scratch);
    at::Tensor direct = keys.clone();
    position.rotate(direct, at::arange(10 + shift, 16 + shift, at::kLong));
    EXPECT_TRUE(dense.keys.equal(direct.transpose(0, 1))) << shift;
    // Masks still come from text positions, and values are left alone.
    EXPECT_EQ(dense.min_position, 10);
    EXPECT_EQ(dense.max_position, 15);
    EXPECT_TRUE(dense.values.equal(stored));
  }
}

}  // namespace
}  // namespace kvlab::plugins

#include "int8_cache.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kvlab/conformance/cache_case.h"
#include "kvlab/conformance/cache_harness.h"

namespace kvlab::plugins {
namespace {

using conformance::feed;
using conformance::small_shape;

// One step of row 0 with the same keys [N,G,Dk] and values [N,G,Dv] in every layer.
void feed_row(Int8Cache& cache, const CacheShape& shape, const at::Tensor& keys,
              const at::Tensor& values) {
  StepPlan plan;
  RowSlice slice;
  slice.first_position = cache.length(0);
  slice.count = keys.size(0);
  plan.add(slice, std::vector<int32_t>(static_cast<size_t>(slice.count), 1));
  cache.begin_step(plan);
  for (int layer = 0; layer < shape.layers; ++layer) cache.append(layer, keys, values);
  cache.end_step();
}

TEST(Int8Cache, AllocatesOnceForTheLongestText) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  Int8Cache cache(shape, arena);
  const int64_t entries = shape.rows * shape.layers * shape.kv_heads * shape.max_length;
  EXPECT_EQ(arena.usage().live_bytes(MemoryKind::storage),
            entries * (shape.key_dim + shape.value_dim));
  EXPECT_EQ(arena.usage().live_bytes(MemoryKind::metadata), entries * 2 * 4);
  const int64_t allocations = arena.allocations();
  for (int i = 0; i < 40; ++i) feed(cache, shape, {{0, 1}, {2, 1}});
  EXPECT_EQ(arena.allocations(), allocations);
  EXPECT_EQ(cache.bytes_moved(), 0);
}

TEST(Int8Cache, CountsCodesOnlyAsPayload) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  Int8Cache cache(shape, arena);
  feed(cache, shape, {{0, 7}, {1, 2}});
  EXPECT_EQ(payload_bytes(cache, shape),
            9 * shape.layers * shape.kv_heads * (shape.key_dim + shape.value_dim));
  EXPECT_DOUBLE_EQ(cache.fragmentation(), 1 - 9.0 / 120);
  cache.fork(0, 2);
  EXPECT_EQ(cache.bytes_moved(),
            7 * shape.layers * shape.kv_heads * (shape.key_dim + shape.value_dim));
}

TEST(Int8Cache, GivesEveryTokenAndHeadItsOwnScale) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  Int8Cache cache(shape, arena);
  at::Tensor keys = at::zeros({3, shape.kv_heads, shape.key_dim});
  at::Tensor values = at::zeros({3, shape.kv_heads, shape.value_dim});
  for (int64_t token = 0; token < 3; ++token) {
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      keys[token][head].fill_(127.0 * static_cast<double>(1 + token * 10 + head));
      values[token][head].fill_(-127.0 * static_cast<double>(2 + token * 10 + head));
    }
  }
  feed_row(cache, shape, keys.narrow(0, 0, 1), values.narrow(0, 0, 1));
  feed_row(cache, shape, keys.narrow(0, 1, 2), values.narrow(0, 1, 2));
  KVView view;
  cache.inspect(1, 0, view);
  ASSERT_EQ(view.segments(0).size(), 1U);
  const KVSegment& segment = view.segments(0)[0];
  EXPECT_EQ(segment.keys.type, at::kChar);
  for (int64_t token = 0; token < 3; ++token) {
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      const auto scale = [&](const KVPlane& plane) {
        return plane.scales[head * plane.scale_head_stride + token * plane.scale_token_stride];
      };
      const auto code = [&](const KVPlane& plane, int64_t d) {
        const auto* codes = static_cast<const int8_t*>(plane.data);
        return int{codes[head * plane.head_stride + token * plane.token_stride + d]};
      };
      EXPECT_EQ(scale(segment.keys), static_cast<float>(1 + token * 10 + head));
      EXPECT_EQ(scale(segment.values), static_cast<float>(2 + token * 10 + head));
      EXPECT_EQ(code(segment.keys, shape.key_dim - 1), 127);
      EXPECT_EQ(code(segment.values, 0), -127);
    }
  }
}

TEST(Int8Cache, LosesNoNaN) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  Int8Cache cache(shape, arena);
  at::Tensor keys = at::full({1, shape.kv_heads, shape.key_dim}, 2.0);
  at::Tensor values = at::full({1, shape.kv_heads, shape.value_dim}, 3.0);
  values[0][1][2] = std::numeric_limits<float>::quiet_NaN();
  feed_row(cache, shape, keys, values);
  KVView view;
  cache.inspect(0, 0, view);
  const KVPlane& plane = view.segments(0)[0].values;
  EXPECT_TRUE(std::isnan(plane.scales[plane.scale_head_stride]));
  EXPECT_FALSE(std::isnan(plane.scales[0]));
  EXPECT_FALSE(std::isnan(view.segments(0)[0].keys.scales[plane.scale_head_stride]));
}

}  // namespace
}  // namespace kvlab::plugins

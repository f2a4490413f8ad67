#include "none_cache.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "kvlab/conformance/cache_case.h"
#include "kvlab/conformance/cache_harness.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {
namespace {

using conformance::feed;
using conformance::small_shape;

TEST(NoneCache, HasLengthZeroWhateverIsFed) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  NoneCache cache(shape, arena);
  feed(cache, shape, {{0, 5}, {2, 40}});
  for (int row = 0; row < 3; ++row) EXPECT_EQ(cache.length(row), 0);
  EXPECT_EQ(payload_bytes(cache, shape), 0);
  EXPECT_TRUE(cache.traits().keeps_nothing);
  EXPECT_EQ(cache.truncate(2, 17), 0);
}

TEST(NoneCache, HoldsScratchOnlyWhileTheStepRuns) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  NoneCache cache(shape, arena);
  StepPlan plan;
  RowSlice slice;
  slice.count = 4;
  plan.add(slice, std::vector<int32_t>(4, 1));
  const at::Tensor key = at::zeros({4, shape.kv_heads, shape.key_dim}, shape.dtype);
  const at::Tensor value = at::zeros({4, shape.kv_heads, shape.value_dim}, shape.dtype);
  const auto scratch = [&] { return arena.usage().live_bytes(MemoryKind::scratch); };
  const int64_t layer_bytes = 4 * shape.token_bytes_per_layer();
  for (const bool aborted : {false, true}) {
    cache.begin_step(plan);
    EXPECT_EQ(scratch(), 0);
    cache.append(0, key, value);
    EXPECT_EQ(scratch(), layer_bytes);
    cache.append(1, key, value);
    EXPECT_EQ(scratch(), 2 * layer_bytes);
    aborted ? cache.abort_step() : cache.end_step();
    EXPECT_EQ(scratch(), 0);
  }
  EXPECT_EQ(arena.usage().reserved(), 0);
  EXPECT_EQ(arena.usage().peak_bytes(MemoryKind::scratch), 2 * layer_bytes);
}

TEST(NoneCache, PointsAtTheStepsOwnTensors) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  NoneCache cache(shape, arena);
  StepPlan plan;
  RowSlice first, second;
  first.row = 2;
  first.count = 3;
  second.row = 0;
  second.count = 2;
  plan.add(first, std::vector<int32_t>(3, 1));
  plan.add(second, std::vector<int32_t>(2, 1));
  const at::Tensor key = at::zeros({5, shape.kv_heads, shape.key_dim}, shape.dtype);
  const at::Tensor value = at::zeros({5, shape.kv_heads, shape.value_dim}, shape.dtype);
  cache.begin_step(plan);
  cache.append(0, key, value);
  const KVView& view = cache.view(0, key);
  EXPECT_EQ(view.segments(0)[0].keys.data, key.const_data_ptr());
  EXPECT_EQ(view.segments(1)[0].values.data, value[3].const_data_ptr());
  EXPECT_EQ(view.segments(1)[0].count, 2);
  cache.end_step();
}

TEST(NoneCache, TakesTheLatestTensorsWhenALayerIsAppendedAgain) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  NoneCache cache(shape, arena);
  StepPlan plan;
  RowSlice slice;
  slice.count = 1;
  plan.add(slice, std::vector<int32_t>(1, 1));
  const at::Tensor key = at::zeros({1, shape.kv_heads, shape.key_dim}, shape.dtype);
  const at::Tensor value = at::zeros({1, shape.kv_heads, shape.value_dim}, shape.dtype);
  const at::Tensor other = value.add(1);
  cache.begin_step(plan);
  cache.append(0, key, value);
  cache.append(0, key, other);
  EXPECT_EQ(cache.view(0, key).segments(0)[0].values.data, other.const_data_ptr());
  cache.abort_step();
  EXPECT_EQ(arena.usage().peak_bytes(MemoryKind::scratch), shape.token_bytes_per_layer());
}

}  // namespace
}  // namespace kvlab::plugins

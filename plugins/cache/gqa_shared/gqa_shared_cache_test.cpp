#include "gqa_shared_cache.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "kvlab/conformance/cache_case.h"
#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {
namespace {

using conformance::feed;
using conformance::message_of;
using conformance::small_shape;

Registry registry_with_plugins() {
  Registry registry;
  register_builtin_plugins(registry);
  return registry;
}

int64_t reserved(const std::string& spec, const CacheShape& shape, int64_t tokens) {
  const Registry registry = registry_with_plugins();
  StorageArena arena;
  const auto cache = registry.make_cache(parse_component_spec(spec), shape, arena);
  feed(*cache, shape, {{0, tokens}});
  return arena.usage().live_bytes(MemoryKind::storage);
}

TEST(GqaSharedCache, StoresFewerBytesByTheFactor) {
  CacheShape shape = small_shape();
  shape.kv_heads = 6;
  const int64_t full = reserved("preallocated", shape, 9);
  EXPECT_EQ(reserved("gqa_shared", shape, 9), full);
  EXPECT_EQ(reserved("gqa_shared:kv_heads=3", shape, 9), full / 2);
  EXPECT_EQ(reserved("gqa_shared:kv_heads=2", shape, 9), full / 3);
  EXPECT_EQ(reserved("gqa_shared:kv_heads=1", shape, 9), full / 6);
  const std::string paged = "inner=paged,inner.block_size=4";
  EXPECT_EQ(reserved("gqa_shared:kv_heads=1," + paged, shape, 9),
            reserved("paged:block_size=4", shape, 9) / 6);
  shape.kv_heads = 2;
  EXPECT_EQ(reserved("gqa_shared:kv_heads=6", shape, 9), 3 * reserved("preallocated", shape, 9));
}

TEST(GqaSharedCache, RefusesHeadsThatDoNotDivide) {
  const Registry registry = registry_with_plugins();
  CacheShape shape = small_shape();
  shape.query_heads = 12;
  shape.kv_heads = 6;
  const auto refusal = [&](const std::string& heads) {
    return message_of<UserError>([&] {
      registry.cache_traits(parse_component_spec("gqa_shared:kv_heads=" + heads), shape);
    });
  };
  const std::string rule =
      "[cache.gqa_shared] kv_heads must divide the model's 6 KV heads, or be a multiple of them "
      "that divides its 12 query heads, got ";
  EXPECT_EQ(refusal("4"), rule + "4");
  EXPECT_EQ(refusal("5"), rule + "5");
  EXPECT_EQ(refusal("9"), rule + "9");
  EXPECT_EQ(refusal("24"), rule + "24");
  EXPECT_EQ(refusal("12"), "nothing was thrown");
}

TEST(GqaSharedCache, IsExactOnlyWhereNoHeadsArePooled) {
  const Registry registry = registry_with_plugins();
  CacheShape shape = small_shape();
  const auto exact = [&](const std::string& spec) {
    return registry.cache_traits(parse_component_spec(spec), shape).exact;
  };
  EXPECT_TRUE(exact("gqa_shared"));
  EXPECT_TRUE(exact("gqa_shared:kv_heads=3"));
  EXPECT_TRUE(exact("gqa_shared:kv_heads=6"));
  EXPECT_FALSE(exact("gqa_shared:kv_heads=1"));
  EXPECT_TRUE(registry.cache_traits(parse_component_spec("gqa_shared:inner=none"), shape)
                  .keeps_nothing);
}

TEST(GqaSharedCache, PoolsNeighboursNotStrides) {
  // Heads 0..3 hold 1, 2, 5, 8: pooled to two they give 1.5 and 6.5; tiled it would be 3 and 5.
  const Registry registry = registry_with_plugins();
  CacheShape shape = small_shape();
  shape.query_heads = shape.kv_heads = 4;
  StorageArena arena;
  const auto cache = registry.make_cache(parse_component_spec("gqa_shared:kv_heads=2"), shape, arena);
  StepPlan plan;
  RowSlice slice;
  slice.count = 1;
  plan.add(slice, std::vector<int32_t>{1});
  at::Tensor key = at::zeros({1, 4, shape.key_dim}), value = at::zeros({1, 4, shape.value_dim});
  const float heads[] = {1, 2, 5, 8};
  for (int64_t h = 0; h < 4; ++h) {
    key[0][h].fill_(heads[h]);
    value[0][h].fill_(-heads[h]);
  }
  cache->begin_step(plan);
  for (int layer = 0; layer < 2; ++layer) cache->append(layer, key, value);
  cache->end_step();
  KVView view;
  cache->inspect(1, 0, view);
  ASSERT_EQ(view.num_kv_heads(), 2);
  const KVSegment& segment = view.segments(0)[0];
  const auto* keys = static_cast<const float*>(segment.keys.data);
  const auto* values = static_cast<const float*>(segment.values.data);
  EXPECT_EQ(keys[0], 1.5F);
  EXPECT_EQ(keys[segment.keys.head_stride], 6.5F);
  EXPECT_EQ(values[segment.values.head_stride], -6.5F);
}

TEST(GqaSharedCache, RefusesATypeItCannotPoolAsAnUserError) {
  const Registry registry = registry_with_plugins();
  const CacheShape shape = small_shape();
  StorageArena arena;
  const auto cache = registry.make_cache(parse_component_spec("gqa_shared:kv_heads=1"), shape, arena);
  StepPlan plan;
  RowSlice slice;
  slice.count = 1;
  plan.add(slice, std::vector<int32_t>{1});
  cache->begin_step(plan);
  const at::Tensor key = at::zeros({1, 3, 7}, at::kLong), value = at::zeros({1, 3, 5}, at::kLong);
  EXPECT_EQ(message_of<UserError>([&] { cache->append(0, key, value); }),
            "[cache.gqa_shared.append] expected the cache's dtype Float, got Long");
  cache->abort_step();
}

}  // namespace
}  // namespace kvlab::plugins

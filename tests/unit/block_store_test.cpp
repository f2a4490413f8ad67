#include "kvlab/cache/block_store.h"

#include <gtest/gtest.h>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

CacheShape small_shape() {
  CacheShape shape;
  shape.layers = 2;
  shape.query_heads = shape.kv_heads = 3;
  shape.rows = 3;
  shape.key_dim = 7;
  shape.value_dim = 5;
  shape.max_length = 20;
  shape.max_step_tokens = 20;
  return shape;
}

StepPlan plan_of(const std::vector<RowSlice>& slices) {
  StepPlan plan;
  for (const RowSlice& slice : slices) {
    plan.add(slice, std::vector<int32_t>(static_cast<size_t>(slice.count), 1));
  }
  return plan;
}

RowSlice tokens(int row, int64_t first, int64_t count) {
  RowSlice slice;
  slice.row = row;
  slice.first_position = first;
  slice.count = count;
  return slice;
}

TEST(BlockStore, GivesEveryBlockALayerMajorPlaceOfItsOwn) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  BlockStore store(shape, 4, 0, arena);
  store.reserve(plan_of({tokens(0, 0, 9)}));
  ASSERT_EQ(store.table(0).size(), 3U);
  const int32_t block = store.table(0)[1];
  const kvlab::Run first = store.run(0, block), second = store.run(1, block);
  // [K: G,block,Dk | V: G,block,Dv] per layer.
  EXPECT_EQ(first.values - first.keys, 3 * 4 * 7 * 4);
  EXPECT_EQ(second.keys - first.keys, 3 * 4 * (7 + 5) * 4);
  EXPECT_EQ(first.offset(2, 3, 7), (2 * 4 + 3) * 7 * 4);
}

TEST(BlockStore, ListsARowBlockByBlockAsItsRunsLie) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  BlockStore store(shape, 4, 0, arena);
  store.reserve(plan_of({tokens(1, 0, 3), tokens(0, 0, 9)}));
  for (const int layer : {0, 1}) {
    KVView view;
    view.begin(shape.kv_heads, shape.key_dim, shape.value_dim);
    view.begin_slice();
    store.list(layer, 2, 0, view);
    EXPECT_TRUE(view.segments(0).empty());
    store.list(layer, 0, 9, view);
    ASSERT_EQ(view.segments(0).size(), 3U);
    for (size_t i = 0; i < 3; ++i) {
      const KVSegment& listed = view.segments(0)[i];
      const auto first = static_cast<int64_t>(4 * i);
      const int64_t count = i < 2 ? 4 : 1;
      const KVSegment wanted = store.run(layer, store.table(0)[i]).segment(0, count, first);
      EXPECT_EQ(listed.keys.data, wanted.keys.data);
      EXPECT_EQ(listed.values.data, wanted.values.data);
      EXPECT_EQ(listed.values.head_stride, wanted.values.head_stride);
      EXPECT_EQ(listed.count, count);
      EXPECT_EQ(listed.first_position, first);
      EXPECT_EQ(listed.head_end, 3);
    }
  }
}

TEST(BlockStore, AddressesBeyondFourGigabytesWithoutAllocatingThem) {
  const CacheShape shape = small_shape();
  const kvlab::Run run = kvlab::Run::over(nullptr, nullptr, int64_t{1} << 30, shape);
  EXPECT_EQ(run.offset(2, 5, 7), ((int64_t{2} << 30) + 5) * 7 * 4);
  EXPECT_GT(run.offset(2, 5, 7), int64_t{1} << 32);
  EXPECT_EQ(run.segment(0, 1, 0).keys.head_stride, (int64_t{1} << 30) * 7);
}

TEST(BlockStore, CountsTheCopiesOfOneStepAheadOfTime) {
  const CacheShape shape = small_shape();
  for (const int64_t most : {3, 4}) {
    StorageArena arena;
    BlockStore store(shape, 4, most, arena);
    store.reserve(plan_of({tokens(0, 0, 6)}));
    store.share(0, 1);
    store.share(0, 2);
    // Tail shared by three; all three write: two copies, 2 + 2 = 4 blocks.
    const StepPlan step = plan_of({tokens(0, 6, 1), tokens(1, 6, 1), tokens(2, 6, 1)});
    if (most == 3) {
      EXPECT_THROW(store.reserve(step), CapacityError);
      EXPECT_EQ(store.pool().held(), 2);
      EXPECT_EQ(store.bytes_copied(), 0);
    } else {
      store.reserve(step);
      EXPECT_EQ(store.pool().held(), 4);
      EXPECT_EQ(store.bytes_copied(), 2 * 2 * shape.token_bytes_per_layer() * shape.layers);
    }
    store.check_integrity();
  }
}

TEST(BlockStore, LeavesNoTraceWhereMemoryEnds) {
  const CacheShape shape = small_shape();
  for (int64_t k = 1; k <= 4; ++k) {
    StorageArena arena;
    BlockStore store(shape, 4, 0, arena);
    store.reserve(plan_of({tokens(0, 0, 3)}));
    store.drop(0, 0);
    store.reserve(plan_of({tokens(1, 0, 3)}));
    const MemoryUsage before = arena.usage();
    arena.fail_allocation(k);
    EXPECT_THROW(store.reserve(plan_of({tokens(0, 0, 12), tokens(1, 3, 6)})), CapacityError);
    arena.fail_allocation(0);
    EXPECT_EQ(arena.usage().live, before.live);
    EXPECT_EQ(store.pool().opened(), 1);
    EXPECT_TRUE(store.table(0).empty());
    store.check_integrity();
    store.reserve(plan_of({tokens(0, 0, 12), tokens(1, 3, 6)}));
    store.check_integrity();
  }
}

TEST(BlockStore, DropKeepsTheBlockThatHoldsTheLastToken) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  BlockStore store(shape, 4, 0, arena);
  store.reserve(plan_of({tokens(0, 0, 17)}));
  const std::vector<std::pair<int64_t, size_t>> expected = {
      {17, 5}, {16, 4}, {13, 4}, {12, 3}, {5, 2}, {1, 1}, {0, 0}};
  for (const auto& [from, blocks] : expected) {
    store.drop(0, from);
    EXPECT_EQ(store.table(0).size(), blocks) << from;
    store.check_integrity();
  }
}

TEST(BlockStore, RefusesBlocksWithoutTokens) {
  StorageArena arena;
  EXPECT_THROW(BlockStore(small_shape(), 0, 0, arena), UserError);
  EXPECT_THROW(BlockStore(small_shape(), -4, 0, arena), UserError);
}

}  // namespace
}  // namespace kvlab

#include "preallocated_cache.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {
namespace {

CacheShape small_shape() {
  CacheShape shape;
  shape.layers = 2;
  shape.query_heads = 6;
  shape.kv_heads = 3;
  shape.rows = 3;
  shape.key_dim = 7;
  shape.value_dim = 5;
  shape.max_length = 40;
  shape.max_step_tokens = 40;
  return shape;
}

template <typename Error, typename Function>
std::string message_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

// Feeds rows of `plan_rows` {row, tokens} in one step; K and V of token t of row r are all r + t/64.
void feed(KVCache& cache, const CacheShape& shape,
          const std::vector<std::pair<int, int64_t>>& plan_rows) {
  StepPlan plan;
  for (const auto& [row, count] : plan_rows) {
    RowSlice slice;
    slice.row = row;
    slice.first_position = cache.length(row);
    slice.count = count;
    plan.add(slice, std::vector<int32_t>(static_cast<size_t>(count), 1));
  }
  cache.begin_step(plan);
  for (int layer = 0; layer < shape.layers; ++layer) {
    at::Tensor key = at::zeros({plan.num_tokens(), shape.kv_heads, shape.key_dim}, shape.dtype);
    at::Tensor value = at::zeros({plan.num_tokens(), shape.kv_heads, shape.value_dim}, shape.dtype);
    for (const RowSlice& slice : plan.slices()) {
      for (int64_t i = 0; i < slice.count; ++i) {
        const double number = slice.row + static_cast<double>(slice.first_position + i) / 64;
        key[slice.offset + i].fill_(number);
        value[slice.offset + i].fill_(-number);
      }
    }
    cache.append(layer, key, value);
  }
  cache.end_step();
}

TEST(PreallocatedCache, AllocatesOnceForTheLongestText) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PreallocatedCache cache({}, shape, arena);
  const int64_t bytes = shape.rows * shape.layers * 40 * shape.token_bytes_per_layer();
  EXPECT_EQ(arena.usage().reserved(), bytes);
  const int64_t allocations = arena.allocations();
  EXPECT_EQ(allocations, 2 * shape.rows * shape.layers);
  for (int i = 0; i < 40; ++i) feed(cache, shape, {{0, 1}});
  EXPECT_EQ(arena.allocations(), allocations);
  EXPECT_EQ(arena.usage().reserved(), bytes);
  EXPECT_EQ(cache.bytes_moved(), 0);
}

TEST(PreallocatedCache, DoublesWhenFullUpToTheLongestText) {
  CacheShape shape = small_shape();
  shape.rows = 1;
  StorageArena arena;
  PreallocatedCache cache({Growth::doubling, 3}, shape, arena);
  std::vector<int64_t> sizes;
  const int64_t entry = shape.layers * shape.token_bytes_per_layer();
  for (int i = 0; i < 40; ++i) {
    const int64_t size = arena.usage().reserved() / entry;
    if (sizes.empty() || sizes.back() != size) sizes.push_back(size);
    feed(cache, shape, {{0, 1}});
  }
  EXPECT_EQ(sizes, (std::vector<int64_t>{3, 6, 12, 24, 40}));
  EXPECT_EQ(cache.bytes_moved(), (3 + 6 + 12 + 24) * entry);
}

TEST(PreallocatedCache, GrowsOnlyTheRowsOfTheStep) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PreallocatedCache cache({Growth::doubling, 4}, shape, arena);
  feed(cache, shape, {{1, 9}});
  EXPECT_EQ(arena.usage().reserved(),
            (4 + 16 + 4) * shape.layers * shape.token_bytes_per_layer());
  EXPECT_DOUBLE_EQ(cache.fragmentation(), 1 - 9.0 / 24);
}

TEST(PreallocatedCache, GrowsLayerByLayer) {
  CacheShape shape = small_shape();
  shape.rows = 1;
  StorageArena arena;
  PreallocatedCache cache({Growth::doubling, 4}, shape, arena);
  feed(cache, shape, {{0, 5}});
  // While the last layer grows, the first has grown: 8, and the last has 4 and 8.
  EXPECT_EQ(arena.usage().peak_bytes(MemoryKind::storage),
            (8 + 4 + 8) * shape.token_bytes_per_layer());
}

TEST(PreallocatedCache, NamesLengthCapacityAndRequestWhenFull) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PreallocatedCache cache({Growth::fixed, 8}, shape, arena);
  feed(cache, shape, {{1, 7}});
  EXPECT_EQ(message_of<CapacityError>([&] { feed(cache, shape, {{1, 2}}); }),
            "[cache.preallocated.begin_step] row 1 is full: length 7, capacity 8, requested 2. "
            "Raise capacity, or use growth: doubling");
  EXPECT_EQ(cache.length(1), 7);
  feed(cache, shape, {{1, 1}});
  EXPECT_EQ(cache.length(1), 8);
}

TEST(PreallocatedCache, KeepsAGrownBufferAfterReset) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PreallocatedCache cache({Growth::doubling, 2}, shape, arena);
  feed(cache, shape, {{0, 30}});
  const int64_t bytes = arena.usage().reserved();
  cache.reset(0);
  EXPECT_EQ(arena.usage().reserved(), bytes);
  feed(cache, shape, {{0, 30}});
  EXPECT_EQ(arena.usage().reserved(), bytes);
}

}  // namespace
}  // namespace kvlab::plugins

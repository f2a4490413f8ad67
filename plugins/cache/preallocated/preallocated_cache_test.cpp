#include "preallocated_cache.h"

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

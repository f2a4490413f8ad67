// What is special about @NAME@. What every cache must do is tested by the conformance kit already.
#include "@NAME@_cache.h"

#include <gtest/gtest.h>

#include "kvlab/conformance/cache_harness.h"

namespace kvlab::plugins {
namespace {

TEST(@CLASS@Cache, TakesMemoryForTheRowsInUseOnly) {
  const CacheShape shape = conformance::small_shape();
  const int64_t row_bytes = shape.layers * shape.max_length * shape.token_bytes_per_layer();
  StorageArena arena;
  @CLASS@Cache cache(shape, arena);
  EXPECT_EQ(arena.usage().reserved(), 0);
  conformance::feed(cache, shape, {{0, 11}, {2, 5}});
  EXPECT_EQ(arena.usage().reserved(), 2 * row_bytes);
  cache.truncate(0, 10);
  EXPECT_EQ(arena.usage().reserved(), 2 * row_bytes);
  EXPECT_DOUBLE_EQ(cache.fragmentation(), 1 - 15.0 / (2.0 * static_cast<double>(shape.max_length)));
  cache.reset(0);
  EXPECT_EQ(arena.usage().reserved(), row_bytes);
  EXPECT_EQ(cache.bytes_moved(), 0);
}

TEST(@CLASS@Cache, ReadsARowAsOneSegment) {
  const CacheShape shape = conformance::small_shape();
  StorageArena arena;
  @CLASS@Cache cache(shape, arena);
  conformance::feed(cache, shape, {{1, 7}});
  conformance::feed(cache, shape, {{1, 1}});
  KVView view;
  cache.inspect(1, 1, view);
  ASSERT_EQ(view.segments(0).size(), 1U);
  EXPECT_EQ(view.segments(0)[0].count, 8);
}

}  // namespace
}  // namespace kvlab::plugins

#include "concat_cache.h"

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

TEST(ConcatCache, CopiesTheWholeTextForEveryStep) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  ConcatCache cache(shape, arena);
  feed(cache, shape, {{0, 5}});
  EXPECT_EQ(cache.bytes_moved(), 0);
  // A step at length T copies T entries of every layer: 5 + 6 + ... + 14.
  int64_t copied = 0;
  for (int64_t length = 5; length < 15; ++length) {
    feed(cache, shape, {{0, 1}});
    copied += length;
  }
  EXPECT_EQ(copied, 95);
  EXPECT_EQ(cache.bytes_moved(), copied * shape.token_bytes_per_layer() * shape.layers);
}

TEST(ConcatCache, IsExactlyAsLongAsTheText) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  ConcatCache cache(shape, arena);
  EXPECT_EQ(arena.usage().reserved(), 0);
  feed(cache, shape, {{0, 5}, {2, 1}});
  feed(cache, shape, {{0, 1}});
  EXPECT_EQ(arena.usage().live_bytes(MemoryKind::storage),
            (6 + 1) * shape.token_bytes_per_layer() * shape.layers);
  EXPECT_EQ(cache.fragmentation(), 0);
}

TEST(ConcatCache, HoldsTwoCopiesOfOneLayerWhileItGrows) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  ConcatCache cache(shape, arena);
  feed(cache, shape, {{0, 20}});
  arena.restart_peaks();
  feed(cache, shape, {{0, 1}});
  // The last layer's old 20 entries stand beside its new 21; the first layer has grown.
  EXPECT_EQ(arena.usage().peak_bytes(MemoryKind::storage),
            (21 + 21 + 20) * shape.token_bytes_per_layer());
}

TEST(ConcatCache, ShrinksAtTheNextStepAfterATruncation) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  ConcatCache cache(shape, arena);
  feed(cache, shape, {{1, 20}});
  const int64_t long_bytes = arena.usage().reserved();
  cache.truncate(1, 5);
  EXPECT_EQ(arena.usage().reserved(), long_bytes);
  EXPECT_DOUBLE_EQ(cache.fragmentation(), 0.75);
  feed(cache, shape, {{1, 1}});
  EXPECT_EQ(arena.usage().reserved(), 6 * shape.token_bytes_per_layer() * shape.layers);
  EXPECT_EQ(cache.fragmentation(), 0);
}

TEST(ConcatCache, GivesOneSegmentPerRow) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  ConcatCache cache(shape, arena);
  for (int i = 0; i < 4; ++i) feed(cache, shape, {{1, 3}});
  KVView view;
  cache.inspect(1, 1, view);
  ASSERT_EQ(view.segments(0).size(), 1U);
  EXPECT_EQ(view.segments(0)[0].count, 12);
}

}  // namespace
}  // namespace kvlab::plugins

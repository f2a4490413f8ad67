#include "paged_cache.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
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

PagedOptions blocks_of(int64_t size, int64_t most = 0) {
  PagedOptions options;
  options.block_size = size;
  options.max_blocks = most;
  return options;
}

// Bytes of one block: all layers.
int64_t block_bytes(const CacheShape& shape, int64_t size) {
  return size * shape.layers * shape.token_bytes_per_layer();
}

int64_t storage(const StorageArena& arena) {
  return arena.usage().live_bytes(MemoryKind::storage);
}

TEST(PagedCache, OpensABlockWhenTheTextReachesIt) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PagedCache cache(blocks_of(5), shape, arena);
  EXPECT_EQ(storage(arena), 0);
  for (int64_t length = 1; length <= 16; ++length) {
    feed(cache, shape, {{0, 1}});
    EXPECT_EQ(storage(arena), (length + 4) / 5 * block_bytes(shape, 5)) << length;
  }
}

TEST(PagedCache, CopiesExactlyOneTailBlockWhenAForkIsWritten) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PagedCache cache(blocks_of(5), shape, arena);
  feed(cache, shape, {{0, 12}});
  cache.fork(0, 1);
  EXPECT_EQ(storage(arena), 3 * block_bytes(shape, 5));
  EXPECT_EQ(cache.bytes_moved(), 0);
  feed(cache, shape, {{1, 1}});
  // Block 2 held 2 live tokens; only they are copied.
  EXPECT_EQ(cache.bytes_moved(), 2 * shape.layers * shape.token_bytes_per_layer());
  EXPECT_EQ(storage(arena), 4 * block_bytes(shape, 5));
  feed(cache, shape, {{0, 1}});  // row 0 owns its tail alone again
  EXPECT_EQ(cache.bytes_moved(), 2 * shape.layers * shape.token_bytes_per_layer());
  EXPECT_EQ(payload_bytes(cache, shape), (10 + 3 + 3) * shape.layers * shape.token_bytes_per_layer());
}

TEST(PagedCache, CopiesNothingWhenAForkEndsAtABlock) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PagedCache cache(blocks_of(5), shape, arena);
  feed(cache, shape, {{0, 10}});
  cache.fork(0, 1);
  feed(cache, shape, {{0, 1}, {1, 1}});
  EXPECT_EQ(cache.bytes_moved(), 0);
  EXPECT_EQ(storage(arena), 4 * block_bytes(shape, 5));
}

TEST(PagedCache, WritersOfASharedTailFitExactly) {
  // Three rows share a tail; all write in one step. The last one owns the block by then, so two
  // copies are enough: 2 shared + 3 tails.
  const CacheShape shape = small_shape();
  StorageArena arena;
  PagedCache cache(blocks_of(5, 5), shape, arena);
  feed(cache, shape, {{0, 12}});
  cache.fork(0, 1);
  cache.fork(1, 2);
  feed(cache, shape, {{2, 1}, {0, 1}, {1, 1}});
  EXPECT_EQ(storage(arena), 5 * block_bytes(shape, 5));
  cache.check_integrity();
  for (int row = 0; row < 3; ++row) EXPECT_EQ(cache.length(row), 13);
}

TEST(PagedCache, RefusesTheWholeStepWhenBlocksRunOut) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PagedCache cache(blocks_of(5, 4), shape, arena);
  feed(cache, shape, {{0, 12}});
  EXPECT_EQ(message_of<CapacityError>([&] { feed(cache, shape, {{1, 4}, {2, 5}}); }),
            "[cache.block_store.reserve] the step needs 2 blocks of 5 tokens, 1 of 4 are left. "
            "Raise max_blocks or shorten the texts");
  EXPECT_EQ(cache.length(1), 0);
  cache.check_integrity();
  EXPECT_EQ(storage(arena), 3 * block_bytes(shape, 5));
  feed(cache, shape, {{1, 5}});
}

TEST(PagedCache, RecyclesFreedBlocks) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PagedCache cache(blocks_of(5, 8), shape, arena);
  for (int round = 0; round < 20; ++round) {
    feed(cache, shape, {{round % 3, 40}});
    cache.check_integrity();
    cache.truncate(round % 3, 7);
    cache.reset(round % 3);
  }
  EXPECT_EQ(storage(arena), 8 * block_bytes(shape, 5));
}

TEST(PagedCache, PoisonsFreedBlocks) {
  const CacheShape shape = small_shape();
  StorageArena arena(ArenaOptions{.poison = true});
  PagedCache cache(blocks_of(5), shape, arena);
  feed(cache, shape, {{0, 10}});
  KVView view;
  cache.inspect(0, 0, view);
  const auto* first = static_cast<const float*>(view.segments(0)[0].keys.data);
  const auto* second = static_cast<const float*>(view.segments(0)[1].values.data);
  EXPECT_FALSE(std::isnan(*first));
  cache.truncate(0, 5);
  EXPECT_FALSE(std::isnan(*first));
  EXPECT_TRUE(std::isnan(*second));
  cache.fork(0, 1);
  cache.reset(0);
  EXPECT_FALSE(std::isnan(*first));  // row 1 still holds it
  cache.reset(1);
  EXPECT_TRUE(std::isnan(*first));
}

TEST(PagedCache, FragmentationIsTheEmptyShareOfOpenedBlocks) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PagedCache cache(blocks_of(8), shape, arena);
  EXPECT_EQ(cache.fragmentation(), 0);
  feed(cache, shape, {{0, 9}, {1, 3}});
  EXPECT_DOUBLE_EQ(cache.fragmentation(), 1 - 12.0 / 24);
  cache.fork(0, 2);  // shared blocks count once
  EXPECT_DOUBLE_EQ(cache.fragmentation(), 1 - 12.0 / 24);
  cache.reset(1);  // its block stays allocated
  EXPECT_DOUBLE_EQ(cache.fragmentation(), 1 - 9.0 / 24);
}

TEST(PagedCache, ReadsInTextOrderWhereverBlocksLie) {
  const CacheShape shape = small_shape();
  StorageArena arena;
  PagedCache cache(blocks_of(5), shape, arena);
  // Alternating rows and resets leave row 2 with blocks in a mixed order.
  feed(cache, shape, {{0, 15}, {1, 10}});
  cache.truncate(0, 5);
  feed(cache, shape, {{2, 7}});
  cache.reset(1);
  feed(cache, shape, {{2, 16}});
  KVView view;
  cache.inspect(1, 2, view);
  int64_t next = 0;
  bool descends = false;
  const void* before = nullptr;
  for (const KVSegment& segment : view.segments(0)) {
    EXPECT_EQ(segment.first_position, next);
    for (int64_t e = 0; e < segment.count; ++e, ++next) {
      const auto* key = static_cast<const float*>(segment.keys.data) + e * shape.key_dim;
      EXPECT_EQ(*key, 2 + static_cast<float>(next) / 64);
    }
    descends = descends || std::less<>()(segment.keys.data, before);
    before = segment.keys.data;
  }
  EXPECT_EQ(next, 23);
  EXPECT_TRUE(descends) << "the blocks happened to lie in order: the test shows nothing";
}

}  // namespace
}  // namespace kvlab::plugins

#include "ring_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

void register_cache_ring(Registry& registry);

namespace {

using conformance::CacheCase;
using conformance::CacheHarness;
using conformance::message_of;
using conformance::small_shape;

const Registry& registry() {
  static const Registry ring = [] {
    Registry made;
    register_cache_ring(made);
    return made;
  }();
  return ring;
}

// A shape whose ring is much shorter than its texts.
CacheShape streaming_shape(int64_t chunk) {
  CacheShape shape = small_shape();
  shape.max_length = 120;
  shape.max_step_tokens = chunk;
  return shape;
}

CacheCase ring_case(int64_t window, int64_t chunk) {
  CacheCase chosen;
  chosen.plugin = "ring";
  chosen.spec = "ring:window=" + std::to_string(window);
  chosen.name = chosen.spec;
  chosen.shape = streaming_shape(chunk);
  return chosen;
}

TEST(RingCache, AnswersRightlyAroundItsWindow) {
  for (const int64_t window : {1, 2, 5, 8}) {
    for (const int64_t chunk : {1, 3, 7}) {
      SCOPED_TRACE("window " + std::to_string(window) + " chunk " + std::to_string(chunk));
      for (const int64_t length : {window - 1, window, window + 1, 2 * window + chunk, int64_t{60}}) {
        CacheHarness harness(registry(), ring_case(window, chunk));
        harness.use_every_attention();
        while (harness.length(1) < length) {
          harness.step({{1, std::min(chunk, length - harness.length(1))}, {2, 1}});
        }
        harness.step({{1, 1}});  // decoding goes on
      }
    }
  }
}

// 4 + 7 slots: steps of 7 end in every slot, so that most of them wrap in the middle.
TEST(RingCache, WrapsInsideAChunkIntoTwoSegmentsAtMost) {
  const CacheShape shape = streaming_shape(7);
  StorageArena arena;
  RingCache cache(5, shape, arena);
  int64_t wrapped = 0;
  for (int i = 0; i < 16; ++i) {
    conformance::feed(cache, shape, {{0, 7}});
    KVView view;
    cache.inspect(1, 0, view);
    EXPECT_EQ(view.window, 5);
    EXPECT_LE(view.segments(0).size(), 2U);
    wrapped += view.segments(0).size() == 2 ? 1 : 0;
    EXPECT_EQ(view.count(0, 0), std::min<int64_t>(7 * (i + 1), 11));
  }
  EXPECT_GT(wrapped, 5);
}

TEST(RingCache, NeedsTheSameMemoryForTenTimesItsWindow) {
  CacheShape shape = streaming_shape(3);
  shape.rows = 2;
  StorageArena arena;
  RingCache cache(10, shape, arena);
  const MemoryUsage before = arena.usage();
  const int64_t allocations = arena.allocations();
  EXPECT_EQ(before.live_bytes(MemoryKind::storage),
            2 * shape.layers * (9 + 3) * shape.token_bytes_per_layer());
  for (int i = 0; i < 100; ++i) conformance::feed(cache, shape, {{0, 1}, {1, 1}});
  EXPECT_EQ(cache.length(0), 100);
  EXPECT_EQ(arena.usage(), before);
  EXPECT_EQ(arena.allocations(), allocations);
  EXPECT_EQ(cache.bytes_moved(), 0);
  EXPECT_EQ(payload_bytes(cache, shape), before.live_bytes(MemoryKind::storage));
  EXPECT_DOUBLE_EQ(cache.fragmentation(), 0);
}

TEST(RingCache, NeverHasMoreSlotsThanTheLongestText) {
  CacheShape shape = streaming_shape(120);
  shape.rows = 1;
  StorageArena arena;
  RingCache cache(50, shape, arena);
  EXPECT_EQ(arena.usage().live_bytes(MemoryKind::storage),
            shape.layers * 120 * shape.token_bytes_per_layer());
}

// Draft tokens that were verified in one step can be refused in full, whatever came before.
TEST(RingCache, TakesBackItsLastStepAndGoesOn) {
  for (const int64_t window : {1, 4, 9}) {
    CacheHarness harness(registry(), ring_case(window, 5));
    for (int64_t i = 0; i < 20; ++i) {
      SCOPED_TRACE("window " + std::to_string(window) + " step " + std::to_string(i));
      const int64_t before = harness.length(0);
      harness.step({{0, 1 + i % 5}});
      harness.truncate(0, before + i % 2);
      harness.step({{0, 2}});
    }
  }
}

TEST(RingCache, RefusesToGoBackPastWhatIsStored) {
  const CacheShape shape = streaming_shape(3);
  StorageArena arena;
  RingCache cache(4, shape, arena);  // 6 slots
  for (int i = 0; i < 20; ++i) conformance::feed(cache, shape, {{1, 1}});
  EXPECT_EQ(message_of<UserError>([&] { cache.truncate(1, 16); }),
            "[cache.ring.truncate] row 1 of 20 tokens has evicted entries that a text of 16 needs");
  EXPECT_EQ(cache.length(1), 20);
  EXPECT_EQ(cache.truncate(1, 17), 17);
  EXPECT_EQ(cache.truncate(1, 17), 17);
  EXPECT_THROW(cache.truncate(1, 16), UserError);
  EXPECT_EQ(cache.truncate(1, 0), 0);
  cache.check_integrity();
}

TEST(RingCache, KeepsWhatTheNextTokenSeesWhenAStepIsAborted) {
  CacheHarness harness(registry(), ring_case(4, 5));
  for (int i = 0; i < 12; ++i) {
    SCOPED_TRACE(i);
    harness.step({{0, 1 + i % 3}, {2, 2}});
    harness.begin({{0, 5}});
    harness.append(0);
    harness.attend(0);
    harness.abort();
    harness.verify();
  }
}

TEST(RingCache, ForkedRowsDivergeAfterTheRingIsFull) {
  for (const int64_t length : {2, 5, 6, 7, 13}) {
    SCOPED_TRACE(length);
    CacheHarness harness(registry(), ring_case(4, 3));
    for (int64_t i = 0; i < length; ++i) harness.step({{0, 1}});
    harness.fork(0, 2);
    harness.step({{2, 3}});
    harness.step({{0, 1}, {2, 2}});
    harness.fork(2, 1);
    harness.step({{0, 2}, {1, 1}, {2, 1}});
  }
}

TEST(RingCache, IsExactOnlyWhereItsWindowCoversTheModels) {
  CacheShape shape = small_shape();  // texts of 40 tokens
  shape.max_step_tokens = 8;
  EXPECT_FALSE(ring_traits(39, shape).exact);
  EXPECT_TRUE(ring_traits(40, shape).exact);
  shape.window = 16;
  EXPECT_FALSE(ring_traits(15, shape).exact);
  EXPECT_TRUE(ring_traits(16, shape).exact);
  EXPECT_TRUE(ring_traits(30, shape).exact);
}

TEST(RingCache, KeepsNoMoreThanTheModelsOwnWindow) {
  CacheShape shape = streaming_shape(3);
  shape.window = 5;
  StorageArena arena;
  RingCache cache(50, shape, arena);
  EXPECT_EQ(cache.traits().window, 5);
  EXPECT_EQ(arena.usage().live_bytes(MemoryKind::storage),
            shape.rows * shape.layers * (4 + 3) * shape.token_bytes_per_layer());
}

TEST(RingCache, TruncatesExactlyOnlyWhereItNeverEvicts) {
  CacheShape shape = small_shape();
  shape.max_step_tokens = 8;
  EXPECT_EQ(ring_traits(32, shape).truncation, Truncation::resident);
  EXPECT_EQ(ring_traits(33, shape).truncation, Truncation::exact);
}

}  // namespace
}  // namespace kvlab::plugins

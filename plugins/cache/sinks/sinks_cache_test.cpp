#include "sinks_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

void register_cache_sinks(Registry& registry);

namespace {

using conformance::CacheCase;
using conformance::CacheHarness;
using conformance::message_of;
using conformance::small_shape;

const Registry& registry() {
  static const Registry sinks = [] {
    Registry made;
    register_cache_sinks(made);
    return made;
  }();
  return sinks;
}

// A shape whose slots are much fewer than its texts have tokens. Rotation needs even key dimensions.
CacheShape streaming_shape(int64_t chunk) {
  CacheShape shape = small_shape();
  shape.key_dim = 10;
  shape.max_length = 120;
  shape.max_step_tokens = chunk;
  return shape;
}

CacheCase sinks_case(const std::string& options, int64_t chunk) {
  CacheCase chosen;
  chosen.plugin = "sinks";
  chosen.spec = "sinks:" + options;
  chosen.name = chosen.spec;
  chosen.shape = streaming_shape(chunk);
  return chosen;
}

const std::vector<std::string> kOptions = {
    "sinks=3,window=5",  "sinks=1,window=1", "sinks=3,window=5,positions=cache",
    "sinks=0,window=4,positions=cache", "sinks=1,window=1,positions=cache"};

// Text positions of a row's entries, and their rotary positions.
std::vector<std::pair<int64_t, int64_t>> places_of(const KVCache& cache, int row) {
  KVView view;
  cache.inspect(0, row, view);
  std::vector<std::pair<int64_t, int64_t>> places;
  for (const KVSegment& segment : view.segments(0)) {
    for (int64_t e = 0; e < segment.count; ++e) {
      places.emplace_back(segment.position(e), segment.position(e) + segment.rotary_shift);
    }
  }
  return places;
}

TEST(SinksCache, AnswersRightlyAroundItsWindow) {
  for (const std::string& options : kOptions) {
    for (const int64_t chunk : {1, 3, 7}) {
      SCOPED_TRACE(options + " chunk " + std::to_string(chunk));
      CacheHarness harness(registry(), sinks_case(options, chunk));
      harness.use_every_attention();
      // Every length is met where chunk is 1; prompts longer than the window where it is not.
      while (harness.length(1) < 40) {
        harness.step({{1, std::min(chunk, 40 - harness.length(1))}, {2, 1}});
      }
      harness.step({{1, 1}});
    }
  }
}

TEST(SinksCache, RotaryPositionsCountWhatIsStored) {
  const CacheShape shape = streaming_shape(3);
  StorageArena arena;
  SinksCache cache({2, 4, SinkPositions::cache}, shape, arena);
  for (int i = 0; i < 30; ++i) {
    conformance::feed(cache, shape, {{0, 1 + i % 3}});
    const auto places = places_of(cache, 0);
    EXPECT_EQ(static_cast<int64_t>(places.size()), std::min<int64_t>(cache.length(0), 2 + 3));
    for (size_t e = 0; e < places.size(); ++e) {
      EXPECT_EQ(places[e].second, static_cast<int64_t>(e));
    }
    EXPECT_EQ(cache.rotary_base(0), static_cast<int64_t>(places.size()));
    EXPECT_EQ(places.back().first, cache.length(0) - 1);
  }
}

TEST(SinksCache, NeedsThreeSegmentsAtMost) {
  const CacheShape shape = streaming_shape(7);
  StorageArena arena;
  SinksCache cache({3, 5, SinkPositions::text}, shape, arena);
  size_t most = 0;
  for (int i = 0; i < 16; ++i) {
    conformance::feed(cache, shape, {{0, 7}});
    KVView view;
    cache.inspect(1, 0, view);
    EXPECT_EQ(view.window, 5);
    EXPECT_EQ(view.sinks, 3);
    most = std::max(most, view.segments(0).size());
  }
  EXPECT_EQ(most, 3U);
}

TEST(SinksCache, TakesBackItsLastStepAndGoesOn) {
  for (const std::string options : {"sinks=2,window=4", "sinks=0,window=1", "sinks=3,window=1"}) {
    CacheHarness harness(registry(), sinks_case(options, 5));
    for (int64_t i = 0; i < 20; ++i) {
      SCOPED_TRACE(options + " step " + std::to_string(i));
      const int64_t before = harness.length(0);
      harness.step({{0, 1 + i % 5}});
      harness.truncate(0, before + i % 2);
      harness.step({{0, 2}});
    }
  }
}

// Re-based positions stay gap-free after every truncation that is allowed, and the others are
// refused: a gap would move all keys behind it.
TEST(SinksCache, WithCachePositionsTruncatesOnlyWhatItNeverEvicted) {
  const CacheShape shape = streaming_shape(4);
  StorageArena arena;
  SinksCache cache({2, 4, SinkPositions::cache}, shape, arena);
  for (int i = 0; i < 5; ++i) conformance::feed(cache, shape, {{0, 1}});
  EXPECT_EQ(cache.truncate(0, 3), 3);
  EXPECT_EQ(cache.rotary_base(0), 3);
  for (int i = 0; i < 4; ++i) conformance::feed(cache, shape, {{0, 1}});
  EXPECT_EQ(cache.length(0), 7);
  EXPECT_EQ(cache.rotary_base(0), 2 + 3);
  EXPECT_EQ(message_of<UserError>([&] { cache.truncate(0, 6); }),
            "[cache.sinks.truncate] row 0 of 7 tokens has evicted entries that a text of 6 needs");
  EXPECT_EQ(cache.truncate(0, 7), 7);
  EXPECT_EQ(cache.truncate(0, 2), 2);  // the sinks alone are always there
  EXPECT_EQ(cache.rotary_base(0), 2);
  conformance::feed(cache, shape, {{0, 3}});
  EXPECT_EQ(cache.rotary_base(0), 5);
  EXPECT_EQ(cache.truncate(0, 0), 0);
  EXPECT_EQ(cache.rotary_base(0), 0);
}

TEST(SinksCache, KeepsWhatTheNextTokenSeesWhenAStepIsAborted) {
  for (const std::string& options : kOptions) {
    CacheHarness harness(registry(), sinks_case(options, 5));
    for (int i = 0; i < 12; ++i) {
      SCOPED_TRACE(options + " step " + std::to_string(i));
      harness.step({{0, 1 + i % 3}, {2, 2}});
      harness.begin({{0, 5}});
      harness.append(0);
      harness.attend(0);
      harness.abort();
      harness.verify();
    }
  }
}

TEST(SinksCache, ForkedRowsDivergeAfterTheRingIsFull) {
  for (const std::string& options : kOptions) {
    for (const int64_t length : {1, 3, 7, 8, 20}) {
      SCOPED_TRACE(options + " length " + std::to_string(length));
      CacheHarness harness(registry(), sinks_case(options, 3));
      for (int64_t i = 0; i < length; ++i) harness.step({{0, 1}});
      harness.fork(0, 2);
      harness.step({{2, 3}});
      harness.step({{0, 1}, {2, 2}});
      harness.fork(2, 1);
      harness.step({{0, 2}, {1, 1}, {2, 1}});
    }
  }
}

TEST(SinksCache, IsExactOnlyWhereNothingIsEverMissed) {
  CacheShape shape = small_shape();  // texts of 40 tokens
  shape.max_step_tokens = 8;
  for (const SinkPositions positions : {SinkPositions::text, SinkPositions::cache}) {
    EXPECT_FALSE(sinks_traits({4, 35, positions}, shape).exact);
    EXPECT_TRUE(sinks_traits({4, 36, positions}, shape).exact);
  }
  shape.window = 16;
  EXPECT_FALSE(sinks_traits({4, 15, SinkPositions::text}, shape).exact);
  EXPECT_TRUE(sinks_traits({4, 16, SinkPositions::text}, shape).exact);
  EXPECT_FALSE(sinks_traits({4, 16, SinkPositions::cache}, shape).exact);
}

TEST(SinksCache, TruncatesExactlyOnlyWhereItNeverEvicts) {
  CacheShape shape = small_shape();
  shape.max_step_tokens = 8;
  EXPECT_EQ(sinks_traits({4, 28, SinkPositions::text}, shape).truncation, Truncation::resident);
  EXPECT_EQ(sinks_traits({4, 29, SinkPositions::text}, shape).truncation, Truncation::exact);
  EXPECT_EQ(sinks_traits({4, 36, SinkPositions::cache}, shape).truncation, Truncation::resident);
  EXPECT_EQ(sinks_traits({4, 37, SinkPositions::cache}, shape).truncation, Truncation::exact);
}

}  // namespace
}  // namespace kvlab::plugins

// Caches that keep a window of the text, through a whole model: what they must equal, and what they
// cannot be combined with.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/runtime/equality.h"
#include "tests/fixtures/test_models.h"

namespace kvlab::testing {
namespace {

// Random weights, 4 heads over 2 KV heads.
Model tiny_model(int64_t layers, int64_t window, const std::string& position = "rope") {
  ModelSource source;
  source.name = "tiny";
  source.seed = 3;
  ModelConfig& shape = source.shape;
  shape.vocabulary = 64;
  shape.context = 4096;
  shape.d_model = 32;
  shape.layers = layers;
  shape.n_heads = 4;
  shape.n_kv_heads = 2;
  shape.head_dim = 8;
  shape.d_mlp = 48;
  shape.window = window;
  shape.position.type = position;
  return load_model(source, at::kFloat, at::kFloat);
}

std::vector<int32_t> text_of(int64_t tokens) {
  std::vector<int32_t> text;
  for (int64_t i = 0; i < tokens; ++i) text.push_back(static_cast<int32_t>(i * i % 61));
  return text;
}

LogitRecord record(const Model& model, const std::string& cache, int64_t chunk,
                   const std::vector<int32_t>& text) {
  const auto length = static_cast<int64_t>(text.size());
  Session session(model, registry(), options_for(cache, 1, length, chunk));
  return record_logits(session, {text});
}

// Largest difference of two rows of logits, of the largest logit.
double distance(std::span<const float> got, std::span<const float> wanted) {
  double largest = 0, worst = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(wanted[i])));
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - wanted[i]));
  }
  return worst / largest;
}

TEST(WindowedCaches, ARingEqualsAFullCacheOnAModelWithItsWindow) {
  for (const int64_t window : {1, 6, 40}) {
    const Model model = tiny_model(2, window);
    const LogitRecord wanted = record(model, "preallocated", 0, text_of(90));
    const std::string spec = "ring:window=" + std::to_string(window);
    for (const int64_t chunk : {1, 3, 7, 0}) {
      SCOPED_TRACE(spec + ", chunk " + std::to_string(chunk));
      Session ring(model, registry(), options_for(spec, 1, 90, chunk));
      EXPECT_TRUE(ring.cache().traits().exact);
      const LogitComparison comparison = compare_logits(wanted, ring);
      EXPECT_TRUE(comparison.equal()) << comparison.describe();
    }
  }
}

// The same answer whatever the chunks are, and not that of the whole text.
TEST(WindowedCaches, ARingNarrowsAModelWithoutAWindow) {
  const Model model = tiny_model(2, 0);
  const LogitRecord unlimited = record(model, "preallocated", 0, text_of(90));
  const LogitRecord windowed = record(tiny_model(2, 6), "preallocated", 0, text_of(90));
  for (const int64_t chunk : {1, 4, 0}) {
    SCOPED_TRACE("chunk " + std::to_string(chunk));
    Session ring(model, registry(), options_for("ring:window=6", 1, 90, chunk));
    EXPECT_FALSE(ring.cache().traits().exact);
    EXPECT_TRUE(compare_logits(windowed, ring).equal());
    ring.reset();
    EXPECT_GT(compare_logits(unlimited, ring).relative_difference(), 1e-3);
  }
}

// One layer without positions in the embedding cannot tell where a token stood, only how far apart
// two of them are. So re-based sinks give what a whole cache gives for the kept tokens alone.
TEST(WindowedCaches, RebasedSinksAnswerLikeTheKeptTokensAlone) {
  const Model model = tiny_model(1, 0);
  const std::vector<int32_t> text = text_of(300);
  const LogitRecord streamed =
      record(model, "sinks:sinks=3,window=9,positions=cache", 1, text);
  for (const int64_t length : {1, 2, 3, 4, 11, 12, 13, 14, 40, 299, 300}) {
    SCOPED_TRACE(length);
    std::vector<int32_t> kept(text.begin(), text.begin() + length);
    if (length > 12) kept.erase(kept.begin() + 3, kept.end() - 9);
    const LogitRecord wanted = record(model, "preallocated", 0, kept);
    EXPECT_LE(distance(streamed.at(0, length - 1),
                       wanted.at(0, static_cast<int64_t>(kept.size()) - 1)),
              kEqualityTolerance);
  }
}

TEST(WindowedCaches, SinksWithTextPositionsKeepTheGapBehindThem) {
  const Model model = tiny_model(1, 0);
  const LogitRecord gap = record(model, "sinks:sinks=3,window=9", 1, text_of(60));
  const LogitRecord closed =
      record(model, "sinks:sinks=3,window=9,positions=cache", 1, text_of(60));
  double largest = 0;
  for (int64_t position = 0; position < 60; ++position) {
    const double difference = distance(closed.at(0, position), gap.at(0, position));
    if (position < 12) {
      EXPECT_LE(difference, kEqualityTolerance) << position;
    }
    largest = std::max(largest, difference);
  }
  EXPECT_GT(largest, 1e-3);
}

TEST(WindowedCaches, SinksWithTextPositionsAreTheSameForEveryChunk) {
  const Model model = tiny_model(2, 0);
  const LogitRecord wanted = record(model, "sinks:sinks=3,window=9", 0, text_of(90));
  for (const int64_t chunk : {1, 3, 7}) {
    Session sinks(model, registry(), options_for("sinks:sinks=3,window=9", 1, 90, chunk));
    const LogitComparison comparison = compare_logits(wanted, sinks);
    EXPECT_TRUE(comparison.equal()) << "chunk " << chunk << ": " << comparison.describe();
  }
}

TEST(WindowedCaches, StreamFarBeyondTheirSlotsInTheSameMemory) {
  const Model model = tiny_model(2, 0);
  const std::vector<std::pair<std::string, int64_t>> caches = {
      {"ring:window=28", 27 + 16},
      {"sinks:sinks=4,window=28", 4 + 27 + 16},
      {"sinks:sinks=4,window=28,positions=cache", 4 + 27 + 16}};
  for (const auto& [spec, slots] : caches) {
    SCOPED_TRACE(spec);
    Session session(model, registry(), options_for(spec, 1, 4000, 16));
    const MemoryUsage before = session.cache_usage();
    EXPECT_EQ(before.live_bytes(MemoryKind::storage), slots * 2 * 2 * (8 + 8) * 4);
    int64_t answers = 0;
    teacher_force(session, {text_of(4000)},
                  [&](int, int64_t, std::span<const float>) { ++answers; });
    EXPECT_EQ(answers, 4000);
    EXPECT_EQ(session.cache_usage(), before);
    EXPECT_EQ(session.cache().length(0), 4000);
    EXPECT_EQ(session.work().bytes_moved, 0);
    const bool rebased = session.cache().traits().keys_before_position;
    EXPECT_EQ(session.cache().rotary_base(0), rebased ? 4 + 27 : 4000);
  }
}

// Learned positions are part of what every layer computed its keys from.
TEST(WindowedCaches, RebasedSinksAreRefusedForLearnedPositions) {
  const Model model = tiny_model(1, 0, "learned");
  const auto make = [&](const char* spec) {
    Session(model, registry(), options_for(spec, 1, 64, 0));
  };
  try {
    make("sinks:positions=cache");
    ADD_FAILURE() << "it was accepted";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[runtime.session] these cannot work together:\n"
                 "  - cache 'sinks' keeps keys before position; position 'learned' cannot be "
                 "applied later");
  }
  EXPECT_NO_THROW(make("sinks:positions=text"));
}

}  // namespace
}  // namespace kvlab::testing

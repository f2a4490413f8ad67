// Every exact cache gives the logits of no cache, on real sizes: over 512 teacher-forced tokens, for
// every chunking, for rows of unequal length, and after a fork.
#include "kvlab/runtime/equality.h"

#include <gtest/gtest.h>

#include "../fixtures/test_models.h"

namespace kvlab::testing {
namespace {

using Tokens = std::vector<int32_t>;
constexpr int64_t kLength = 512;

// What no cache and the readable attention give.
LogitRecord record(const Model& model, const std::vector<Tokens>& texts) {
  Session control(model, registry(),
                  options_for("none", static_cast<int64_t>(texts.size()), kLength, 0, "eager"));
  return record_logits(control, texts);
}

// Token by token takes as long as decoding; each cache does it once, the rest is chunked.
void expect_equal_over_long_text(const Model& model) {
  const Tokens text = genesis(model, kLength);
  const LogitRecord wanted = record(model, {text});
  for (const std::string& cache : exact_caches(model.config())) {
    for (const int64_t chunk : {1, 7, 64, 0}) {
      const bool wrapper_or_variant = cache.find(':') != std::string::npos;
      if (chunk == 1 && wrapper_or_variant) continue;  // the plain form was decoded already
      Session session(model, registry(), options_for(cache, 1, kLength, chunk));
      const LogitComparison found = compare_logits(wanted, session);
      EXPECT_TRUE(found.equal()) << cache << ", chunk " << chunk << ": " << found.describe();
      EXPECT_GE(found.distinct_tokens, 32) << "too few different tokens to prove anything";
      EXPECT_EQ(found.tokens, kLength);
    }
  }
}

TEST(Equality, Gpt2LogitsMatchNoCacheOver512TokensForEveryChunking) {
  expect_equal_over_long_text(golden_gpt2());
}

TEST(Equality, SmolLm2LogitsMatchNoCacheOver512TokensForEveryChunking) {
  expect_equal_over_long_text(smollm2());
}

TEST(Equality, LibraryAttentionMatchesEagerOnSmolLm2) {
  const Tokens text = genesis(smollm2(), 200);
  const LogitRecord wanted = record(smollm2(), {text});
  for (const int64_t chunk : {7, 0}) {
    Session session(smollm2(), registry(), options_for("paged", 1, kLength, chunk, "sdpa"));
    const LogitComparison found = compare_logits(wanted, session);
    EXPECT_TRUE(found.equal()) << found.describe();
  }
}

TEST(Equality, RowsOfUnequalLengthMatchEachRowAlone) {
  const Tokens all = genesis(smollm2(), 120);
  const std::vector<Tokens> texts = {Tokens(all.begin(), all.begin() + 3),
                                     Tokens(all.begin() + 20, all.begin() + 60),
                                     Tokens(all.begin() + 50, all.begin() + 67)};
  LogitRecord alone;
  alone.texts = texts;
  alone.vocabulary = smollm2().config().vocabulary;
  for (const Tokens& text : texts) alone.rows.push_back(record(smollm2(), {text}).rows.front());
  for (const std::string& cache : exact_caches(smollm2().config())) {
    for (const int64_t chunk : {5, 0}) {
      Session session(smollm2(), registry(), options_for(cache, 3, 64, chunk));
      const LogitComparison found = compare_logits(alone, session);
      EXPECT_TRUE(found.equal()) << cache << ", chunk " << chunk << ": " << found.describe();
    }
  }
}

// Feeds `text` to a row from its cached length on and keeps the last logits.
std::vector<float> last_logits(Session& session, int row, const Tokens& text) {
  std::vector<float> last;
  RowFeed feed;
  feed.row = row;
  feed.text = text;
  feed.end = static_cast<int64_t>(text.size());
  session.step(std::span<const RowFeed>(&feed, 1),
               [&](int, int64_t, std::span<const float> logits) {
                 last.assign(logits.begin(), logits.end());
               });
  return last;
}

TEST(Equality, ForkThenDivergeMatchesTwoSeparateRuns) {
  const Tokens all = genesis(smollm2(), 90);
  const Tokens prompt(all.begin(), all.begin() + 37);
  Tokens left = prompt, right = prompt;
  left.insert(left.end(), all.begin() + 40, all.begin() + 52);
  right.insert(right.end(), all.begin() + 60, all.begin() + 75);
  Session control(smollm2(), registry(), options_for("none", 2, 64, 0));
  const std::vector<float> wanted_left = last_logits(control, 0, left);
  const std::vector<float> wanted_right = last_logits(control, 1, right);
  const auto largest = [](const std::vector<float>& values) {
    float found = 0;
    for (const float value : values) found = std::max(found, std::abs(value));
    return found;
  };
  const auto tolerance = static_cast<float>(kEqualityTolerance) * largest(wanted_left);
  for (const std::string& cache : exact_caches(smollm2().config())) {
    Session session(smollm2(), registry(), options_for(cache, 2, 64, 0));
    last_logits(session, 0, prompt);
    session.cache().fork(0, 1);
    const std::vector<float> found_left = last_logits(session, 0, left);
    const std::vector<float> found_right = last_logits(session, 1, right);
    for (size_t i = 0; i < wanted_left.size(); ++i) {
      ASSERT_NEAR(found_left[i], wanted_left[i], tolerance) << cache;
      ASSERT_NEAR(found_right[i], wanted_right[i], tolerance) << cache;
    }
  }
}

TEST(Equality, ResetRowsGiveWhatFreshRowsGive) {
  const Tokens first = genesis(smollm2(), 30);
  const Tokens all = genesis(smollm2(), 80);
  const Tokens second(all.begin() + 31, all.end());
  const LogitRecord wanted = record(smollm2(), {second});
  for (const std::string& cache : exact_caches(smollm2().config())) {
    Session session(smollm2(), registry(), options_for(cache, 1, 64, 0));
    last_logits(session, 0, first);
    session.reset();
    const LogitComparison found = compare_logits(wanted, session);
    EXPECT_TRUE(found.equal()) << cache << ": " << found.describe();
  }
}

// Rounding of bf16 depends on the step's shape; at equal shapes exact caches are the same bits, with an
// attention whose sums do not follow the blocks.
TEST(Equality, ExactCachesAreBitIdenticalInBf16AtEqualSteps) {
  const Model model = load_model(
      model_source_from_argument(std::string(KVLAB_SOURCE_DIR) +
                                 "/configs/models/smollm2_135m.yaml"),
      at::kBFloat16, at::kBFloat16);
  const Tokens text = genesis(model, 48);
  SessionOptions options = options_for("preallocated", 1, 64, 5, "eager");
  options.cache_dtype = at::kBFloat16;
  Session control(model, registry(), options);
  const LogitRecord wanted = record_logits(control, {text});
  for (const std::string& cache : exact_caches(model.config())) {
    options.cache = parse_component_spec(cache);
    Session session(model, registry(), options);
    if (session.cache().traits().keeps_nothing) continue;  // it never has equal steps
    EXPECT_EQ(compare_logits(wanted, session).largest_difference, 0) << cache;
  }
}

TEST(Equality, Bf16CachesAreAsCloseToNoCacheAsBf16ItselfIs) {
  const ModelSource source = model_source_from_argument(
      std::string(KVLAB_SOURCE_DIR) + "/configs/models/smollm2_135m.yaml");
  const Model model = load_model(source, at::kBFloat16, at::kBFloat16);
  const Tokens text = genesis(model, kLength);
  SessionOptions options = options_for("none", 1, kLength, 0);
  Session exact(smollm2(), registry(), options);
  const LogitRecord exact_record = record_logits(exact, {text});
  options.cache_dtype = at::kBFloat16;
  Session control(model, registry(), options);
  const double cost_of_bf16 = compare_logits(exact_record, control).mean_kl;
  control.reset();
  const LogitRecord wanted = record_logits(control, {text});
  options.chunk = 7;
  for (const char* cache : {"concat", "preallocated", "paged", "gqa_shared"}) {
    options.cache = parse_component_spec(cache);
    Session session(model, registry(), options);
    const LogitComparison found = compare_logits(wanted, session);
    EXPECT_LE(found.mean_kl, kBf16DivergenceFactor * cost_of_bf16) << cache << found.describe();
  }
}

}  // namespace
}  // namespace kvlab::testing

// A session's promises: memory is refused before it is taken, a step is all or nothing, and rows do
// not touch each other.
#include "kvlab/runtime/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/runtime/sampler.h"
#include "tests/fixtures/test_models.h"

namespace kvlab::testing {
namespace {

using Tokens = std::vector<int32_t>;
constexpr int32_t kPoisoned = 63;

ModelConfig tiny_config() {
  ModelConfig config;
  config.name = "tiny";
  config.vocabulary = 64;
  config.context = 128;
  config.d_model = 32;
  config.layers = 2;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 8;
  config.d_mlp = 48;
  config.norm = NormType::rmsnorm;
  config.mlp = MlpType::swiglu;
  config.qkv_bias = config.output_bias = config.mlp_bias = config.tied_head = false;
  config.position.type = "rope";
  return config;
}

Model model_of(const ModelConfig& config, DecoderWeights weights) {
  Model model;
  model.name = config.name;
  model.origin = "random weights, seed 3";
  model.decoder = std::make_shared<const Decoder>(config, std::move(weights), at::kFloat);
  return model;
}

const Model& tiny() {
  static const Model model = model_of(tiny_config(), random_weights(tiny_config(), 3));
  return model;
}

// The embedding of one token is NaN; the head is another tensor, so that only texts with this token
// are spoilt.
Model tiny_with_a_poisoned_token() {
  DecoderWeights weights = random_weights(tiny_config(), 3);
  const int64_t width = tiny_config().d_model;
  float* row = weights.token_embedding.mutable_data_ptr<float>() + kPoisoned * width;
  std::fill(row, row + width, std::numeric_limits<float>::quiet_NaN());
  return model_of(tiny_config(), std::move(weights));
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "(nothing was thrown)";
}

void expect_contains(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << "wanted: " << part << "\ngot: " << message;
}

// Rows that go on greedily, one step for all of those that are named.
class Rows {
 public:
  Rows(Session& session, std::vector<Tokens> texts) : session_(session), texts_(std::move(texts)) {}

  Tokens& text(int row) { return texts_[static_cast<size_t>(row)]; }

  /// Feeds what is not cached yet and appends each row's most likely next token.
  void step(const std::vector<int>& rows) {
    std::vector<RowFeed> feeds;
    for (const int row : rows) {
      RowFeed feed;
      feed.row = row;
      feed.text = text(row);
      feed.end = static_cast<int64_t>(text(row).size());
      // A row's first tokens, and everything a cache that keeps nothing is fed, come at once.
      if (session_.cache().length(row) > 0) feed.phase = Phase::decode;
      feeds.push_back(feed);
    }
    std::vector<std::pair<int, int32_t>> next;
    session_.step(feeds, [&](int row, int64_t, std::span<const float> logits) {
      next.emplace_back(row, argmax(logits));
    });
    for (const auto& [row, token] : next) text(row).push_back(token);
  }

 private:
  Session& session_;
  std::vector<Tokens> texts_;
};

int64_t estimated_peak(const std::string& cache, int64_t rows, int64_t length) {
  const SessionOptions options = options_for(cache, rows, length, 0);
  return filled_usage(registry(), options.cache, session_shape(tiny().config(), options), length)
      .peak_total;
}

TEST(Session, RefusesMoreMemoryThanTheLimitAndNamesTheLongestLengthThatFits) {
  for (const char* cache : {"preallocated", "concat", "paged:block_size=4"}) {
    SCOPED_TRACE(cache);
    const int64_t needed = estimated_peak(cache, 2, 100);
    SessionOptions options = options_for(cache, 2, 100, 0);
    options.memory_limit = needed;
    EXPECT_NO_THROW(Session(tiny(), registry(), options));
    options.memory_limit = needed - 1;
    EXPECT_THROW(Session(tiny(), registry(), options), CapacityError);
    const std::string message = message_of([&] { Session(tiny(), registry(), options); });
    expect_contains(message, std::string("[runtime.memory] cache '") + cache + "' needs " +
                                 std::to_string(needed) + " bytes for 2 row(s) of 100 tokens");
    expect_contains(message, "limit is " + std::to_string(needed - 1));

    const std::string before_number = "The longest length that fits is ";
    const size_t number = message.find(before_number);
    ASSERT_NE(number, std::string::npos) << message;
    const int64_t longest = std::stoll(message.substr(number + before_number.size()));
    EXPECT_GT(longest, 0);
    EXPECT_LT(longest, 100);
    options.max_length = longest;
    EXPECT_NO_THROW(Session(tiny(), registry(), options)) << longest;
    options.max_length = longest + 1;
    EXPECT_THROW(Session(tiny(), registry(), options), CapacityError) << longest + 1;
  }
}

TEST(Session, RefusesBeforeTheCacheIsMade) {
  int made = 0;
  Registry counting;
  register_builtin_plugins(counting);
  CacheEntry entry = registry().cache("preallocated");
  entry.info.name = "counted";
  entry.create = [&made, create = entry.create](const CacheRequest& request, StorageArena& arena) {
    ++made;
    return create(request, arena);
  };
  counting.add(std::move(entry));
  SessionOptions options = options_for("counted", 1, 100, 0);
  options.memory_limit = estimated_peak("preallocated", 1, 100) - 1;
  EXPECT_THROW(Session(tiny(), counting, options), CapacityError);
  EXPECT_EQ(made, 0);
  options.memory_limit = *options.memory_limit + 1;
  EXPECT_NO_THROW(Session(tiny(), counting, options));
  EXPECT_EQ(made, 1);
}

TEST(Session, APreallocatedCacheIsAsLargeAtTheStartAsAfterFiftySteps) {
  const SessionOptions options = options_for("preallocated:growth=fixed", 2, 64, 0);
  Session session(tiny(), registry(), options);
  const int64_t estimated =
      filled_usage(registry(), options.cache, session.shape(), 64).live_bytes(MemoryKind::storage);
  // 2 rows, 2 layers, 64 tokens, K and V of 2 heads by 8 in f32.
  EXPECT_EQ(estimated, 2 * 2 * 64 * 2 * 2 * 8 * 4);
  EXPECT_EQ(session.cache_usage().live_bytes(MemoryKind::storage), estimated);

  Rows rows(session, {{5, 9, 2}, {7, 1, 8, 3}});
  rows.step({0, 1});
  const MemoryUsage after_prefill = session.cache_usage();
  for (int i = 0; i < 50; ++i) rows.step({0, 1});
  EXPECT_EQ(session.cache().length(1), 54);
  EXPECT_EQ(session.cache_usage().peak_total, after_prefill.peak_total);
  EXPECT_EQ(session.cache_usage().live_bytes(MemoryKind::storage), estimated);
}

TEST(Session, NaNInOneRowLeavesAllRowsAsTheyWereAndTheOthersGoOn) {
  const Model model = tiny_with_a_poisoned_token();
  for (const std::string& cache : exact_caches(model.config())) {
    SCOPED_TRACE(cache);
    SessionOptions options = options_for(cache, 2, 64, 0);
    options.arena.poison = false;  // NaN must come from the weights alone
    Session session(model, registry(), options);
    Rows rows(session, {{5, 9, 2}, {7, 1, 8}});
    rows.step({0, 1});  // the session's step 0
    ASSERT_NE(rows.text(0).back(), kPoisoned);
    const Tokens before = rows.text(0);
    const std::vector<int64_t> lengths = {session.cache().length(0), session.cache().length(1)};
    const WorkCounters work = session.work();

    rows.text(1).back() = kPoisoned;
    EXPECT_THROW(rows.step({0, 1}), UserError);
    const std::string message = message_of([&] { rows.step({0, 1}); });
    expect_contains(message, "logits are not finite: step 1, row 1, position 3");
    EXPECT_EQ(session.cache().length(0), lengths[0]);
    EXPECT_EQ(session.cache().length(1), lengths[1]);
    EXPECT_EQ(session.work().token_forwards, work.token_forwards);
    EXPECT_EQ(session.work().logit_rows, work.logit_rows);
    EXPECT_EQ(rows.text(0), before);
    session.cache().check_integrity();

    for (int i = 0; i < 6; ++i) rows.step({0});
    Session alone(model, registry(), options);
    Rows wanted(alone, {{5, 9, 2}});
    for (int i = 0; i < 7; ++i) wanted.step({0});
    EXPECT_EQ(rows.text(0), wanted.text(0));
  }
}

TEST(Session, ResettingARowLeavesTheOthersContinuationAsItWas) {
  for (const std::string& cache : exact_caches(tiny().config())) {
    SCOPED_TRACE(cache);
    const SessionOptions options = options_for(cache, 2, 64, 0);
    const std::vector<Tokens> texts = {{5, 9, 2, 40, 33}, {7, 1, 8}};
    Session undisturbed(tiny(), registry(), options);
    Rows wanted(undisturbed, texts);
    for (int i = 0; i < 20; ++i) wanted.step({0, 1});

    Session session(tiny(), registry(), options);
    Rows rows(session, texts);
    for (int i = 0; i < 8; ++i) rows.step({0, 1});
    session.cache().reset(0);
    EXPECT_EQ(session.cache().length(0), 0);
    session.cache().check_integrity();
    for (int i = 0; i < 4; ++i) rows.step({1});
    // Another text takes over what the reset set free.
    rows.text(0) = {60, 12};
    for (int i = 0; i < 8; ++i) rows.step({0, 1});
    EXPECT_EQ(rows.text(1), wanted.text(1));

    Session fresh(tiny(), registry(), options);
    Rows second(fresh, {{60, 12}});
    for (int i = 0; i < 8; ++i) second.step({0});
    EXPECT_EQ(rows.text(0), second.text(0)) << "the row that was reset";
  }
}

TEST(Session, AResetSessionStartsLikeANewOne) {
  const SessionOptions options = options_for("paged:block_size=4", 1, 64, 0);
  Session session(tiny(), registry(), options);
  Rows first(session, {{5, 9, 2}});
  for (int i = 0; i < 10; ++i) first.step({0});
  session.reset();
  EXPECT_EQ(session.work(), WorkCounters{});
  EXPECT_EQ(session.cache().length(0), 0);
  Rows again(session, {{5, 9, 2}});
  for (int i = 0; i < 10; ++i) again.step({0});
  EXPECT_EQ(again.text(0), first.text(0));
}

TEST(Session, ListsEveryReasonAtOnce) {
  ModelConfig config = tiny_config();
  config.position.type = "learned";
  SessionOptions options = options_for("preallocated:growht=fixed", 1, 200, 0, "eagre");
  const std::vector<std::string> reasons =
      incompatibilities(config, registry(), options, /*has_position_table=*/false);
  const auto contains = [&](const std::string& part) {
    return std::any_of(reasons.begin(), reasons.end(), [&](const std::string& reason) {
      return reason.find(part) != std::string::npos;
    });
  };
  std::string all;
  for (const std::string& reason : reasons) all += reason + "\n";
  EXPECT_TRUE(contains("growht")) << all;
  EXPECT_TRUE(contains("eagre")) << all;
  EXPECT_TRUE(contains("200 tokens is longer than the model's context of 128")) << all;
  EXPECT_TRUE(contains("position 'learned' needs a table")) << all;
  EXPECT_GE(reasons.size(), 4u) << all;
  EXPECT_TRUE(incompatibilities(tiny_config(), registry(), options_for("paged", 1, 128, 0), false)
                  .empty());
}

TEST(Session, ARefusedSessionSaysAllReasonsInOneMessage) {
  SessionOptions options = options_for("paged:block_sise=4", 1, 200, 0);
  EXPECT_THROW(Session(tiny(), registry(), options), UserError);
  const std::string message = message_of([&] { Session(tiny(), registry(), options); });
  expect_contains(message, "[runtime.session] these cannot work together:");
  expect_contains(message, "block_sise");
  expect_contains(message, "longer than the model's context of 128");
}

}  // namespace
}  // namespace kvlab::testing

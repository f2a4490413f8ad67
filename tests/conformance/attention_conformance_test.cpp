// Every attention plugin against dense attention in double precision, over hand-made segment lists.
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <limits>
#include <numeric>
#include <random>

#include "cache_oracle.h"
#include "kvlab/runtime/registry.h"

#include "cache_cases.h"

namespace kvlab::conformance {
namespace {

/// Owns the entries of several heads and lays them out as segments of a view.
class Scene {
 public:
  Scene(int64_t heads, int64_t kv_heads, int64_t key_dim, int64_t value_dim,
        at::ScalarType dtype = at::kFloat)
      : heads_(heads), kv_heads_(kv_heads), key_dim_(key_dim), value_dim_(value_dim),
        dtype_(dtype), entries_(static_cast<size_t>(kv_heads)) {
    view.begin(kv_heads, key_dim, value_dim);
    view.begin_slice();
  }

  /// Adds a run of entries at `positions` to heads [head_begin, head_end), each run in memory of its
  /// own whose unused slots are NaN.
  void add(const std::vector<int32_t>& positions, int head_begin, int head_end,
           int64_t offset_slots = 0) {
    const auto count = static_cast<int64_t>(positions.size());
    const int64_t covered = head_end - head_begin;
    const int64_t slots = count + offset_slots + 2;
    const float nan = std::numeric_limits<float>::quiet_NaN();
    at::Tensor keys = at::full({covered, slots, key_dim_}, nan, at::kFloat);
    at::Tensor values = at::full({covered, slots, value_dim_}, nan, at::kFloat);
    for (int64_t h = 0; h < covered; ++h) {
      for (int64_t e = 0; e < count; ++e) {
        const int32_t position = positions[static_cast<size_t>(e)];
        Owned& owned = owned_.emplace_back();
        for (int64_t d = 0; d < key_dim_; ++d) {
          const float key = token_key(position + 1000, 0, head_begin + h, d);
          keys.mutable_data_ptr<float>()[(h * slots + offset_slots + e) * key_dim_ + d] = key;
          owned.key.push_back(key);
        }
        for (int64_t d = 0; d < value_dim_; ++d) {
          const float value = token_value(position + 1000, 0, head_begin + h, d);
          values.mutable_data_ptr<float>()[(h * slots + offset_slots + e) * value_dim_ + d] = value;
          owned.value.push_back(value);
        }
        entries_[static_cast<size_t>(head_begin + h)].push_back(
            {position, owned.key.data(), owned.value.data()});
      }
    }
    keys = keys.to(dtype_);
    values = values.to(dtype_);
    tensors_.push_back(keys);
    tensors_.push_back(values);
    positions_.push_back(positions);
    const auto size = static_cast<int64_t>(keys.element_size());
    KVSegment segment;
    segment.keys = {static_cast<const char*>(keys.const_data_ptr()) +
                        offset_slots * key_dim_ * size, key_dim_, slots * key_dim_, dtype_};
    segment.values = {static_cast<const char*>(values.const_data_ptr()) +
                          offset_slots * value_dim_ * size, value_dim_, slots * value_dim_, dtype_};
    segment.count = count;
    segment.positions = positions_.back().data();
    segment.head_begin = head_begin;
    segment.head_end = head_end;
    view.add(segment);
  }

  void add(const std::vector<int32_t>& positions) {
    add(positions, 0, static_cast<int>(kv_heads_));
  }

  at::Tensor query(int64_t count) const {
    at::Tensor made = at::zeros({count, heads_, key_dim_}, at::kFloat);
    std::mt19937 random(17);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < made.numel(); ++i) made.mutable_data_ptr<float>()[i] = uniform(random);
    return made.to(query_dtype);
  }

  at::Tensor run(Attention& attention, int64_t first_position, int64_t count) {
    StepPlan plan;
    RowSlice slice;
    slice.first_position = first_position;
    slice.count = count;
    plan.add(slice, std::vector<int32_t>(static_cast<size_t>(count), 1));
    const at::Tensor queries = query(count);
    at::Tensor output = at::full({count, heads_, value_dim_},
                                 std::numeric_limits<float>::quiet_NaN(), query_dtype);
    StorageArena scratch(ArenaOptions{.poison = true});
    PositionShape shape;
    shape.n_heads = heads_;
    const auto position = builtin_registry().make_position({position_name, {}, ""}, shape);
    AttentionInput input{queries, output, plan, view, *position, scratch, 0.3F, model_window};
    attention.forward(input);
    EXPECT_EQ(scratch.usage().live_total(), 0);
    return output;
  }

  /// Largest error against double precision, over the largest output.
  double error(Attention& attention, int64_t first_position, int64_t count) {
    const at::Tensor output = run(attention, first_position, count).to(at::kFloat);
    const at::Tensor queries = query(count).to(at::kFloat);
    PositionShape shape;
    shape.n_heads = heads_;
    const auto position = builtin_registry().make_position({position_name, {}, ""}, shape);
    double worst = 0, largest = 1e-30;
    for (int64_t q = 0; q < count; ++q) {
      for (int64_t head = 0; head < heads_; ++head) {
        ReferenceRules rules;
        rules.scale = 0.3F;
        rules.model_window = model_window;
        rules.view_window = view.window;
        rules.view_sinks = view.sinks;
        const auto slopes = position->score_slopes();
        if (!slopes.empty()) rules.slope = slopes[static_cast<size_t>(head)];
        std::vector<double> wide;
        for (int64_t d = 0; d < key_dim_; ++d) {
          wide.push_back(queries.const_data_ptr<float>()[(q * heads_ + head) * key_dim_ + d]);
        }
        const auto wanted = reference_attention(
            wide.data(), first_position + q,
            entries_[static_cast<size_t>(head / (heads_ / kv_heads_))], key_dim_, value_dim_, rules);
        for (int64_t d = 0; d < value_dim_; ++d) {
          const double want = wanted[static_cast<size_t>(d)];
          const double got = output.const_data_ptr<float>()[(q * heads_ + head) * value_dim_ + d];
          largest = std::max(largest, std::abs(want));
          const double off = std::abs(got - want);
          worst = std::isnan(off) ? std::numeric_limits<double>::infinity() : std::max(worst, off);
        }
      }
    }
    return worst / largest;
  }

  KVView view;
  int64_t model_window = 0;
  std::string position_name = "none";
  at::ScalarType query_dtype = at::kFloat;

 private:
  struct Owned {
    std::vector<double> key, value;
  };
  int64_t heads_, kv_heads_, key_dim_, value_dim_;
  at::ScalarType dtype_;
  std::vector<std::vector<ReferenceEntry>> entries_;
  std::deque<Owned> owned_;
  std::deque<std::vector<int32_t>> positions_;
  std::vector<at::Tensor> tensors_;
};

std::vector<int32_t> range(int32_t first, int32_t end) {
  std::vector<int32_t> positions(static_cast<size_t>(end - first));
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

constexpr double kExact = 1e-5;  // of the largest output: fp32 sums
// bf16 queries and outputs: 8 significant bits on the way in and out.
constexpr double kHalf = 1e-2;

class AttentionConformance : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Attention> attention = builtin_registry().make_attention({GetParam(), {}, ""});
};

TEST_P(AttentionConformance, ReadsOneSegment) {
  for (const int64_t kv_heads : {6, 3, 2, 1}) {
    Scene scene(6, kv_heads, 7, 5);
    scene.add(range(0, 13));
    EXPECT_LE(scene.error(*attention, 12, 1), kExact);
    EXPECT_LE(scene.error(*attention, 0, 13), kExact);
    EXPECT_LE(scene.error(*attention, 4, 6), kExact);
    EXPECT_EQ(attention->gathered_bytes(), 0);
  }
}

TEST_P(AttentionConformance, ReadsManySegments) {
  for (const int64_t kv_heads : {6, 3, 2, 1}) {
    Scene scene(6, kv_heads, 7, 7);
    for (int32_t first = 0; first < 21; first += 5) scene.add(range(first, std::min(first + 5, 21)));
    EXPECT_LE(scene.error(*attention, 20, 1), kExact);
    EXPECT_LE(scene.error(*attention, 10, 11), kExact);
  }
  EXPECT_GT(attention->gathered_bytes(), 0);
}

TEST_P(AttentionConformance, IgnoresEmptySegments) {
  Scene scene(6, 3, 7, 5);
  scene.add({});
  scene.add(range(0, 4));
  scene.add({});
  scene.add(range(4, 9));
  scene.add({});
  EXPECT_LE(scene.error(*attention, 6, 3), kExact);
}

TEST_P(AttentionConformance, GivesZerosWhereThereIsNothingToSee) {
  Scene none(6, 3, 7, 5);
  EXPECT_TRUE(none.run(*attention, 0, 4).eq(0).all().item<bool>());
  // Queries 0 .. 2 lie before every key, 3 and 4 see some.
  Scene later(6, 3, 7, 5);
  later.add(range(3, 9));
  const at::Tensor output = later.run(*attention, 0, 5);
  EXPECT_TRUE(output.narrow(0, 0, 3).eq(0).all().item<bool>());
  EXPECT_FALSE(output.narrow(0, 3, 2).eq(0).any().item<bool>());
  EXPECT_LE(later.error(*attention, 0, 5), kExact);
}

TEST_P(AttentionConformance, DoesNotDependOnWhereBlocksLie) {
  // The same logical order in memory of other addresses and alignments: the same bits.
  at::Tensor first;
  for (int64_t shift = 0; shift < 5; ++shift) {
    Scene scene(6, 2, 7, 5);
    for (int32_t block = 0; block < 4; ++block) {
      scene.add(range(5 * block, 5 * block + 5), 0, 2, (shift * (block + 1)) % 5);
    }
    const at::Tensor output = scene.run(*attention, 16, 4);
    if (shift == 0) first = output;
    EXPECT_TRUE(first.equal(output)) << shift;
  }
}

TEST_P(AttentionConformance, TakesMasksFromPositionsNotFromSlots) {
  // Blocks listed in another order: every key keeps its own position.
  std::mt19937 random(5);
  for (int round = 0; round < 5; ++round) {
    std::vector<int32_t> blocks = range(0, 5);
    std::shuffle(blocks.begin(), blocks.end(), random);
    Scene scene(6, 3, 7, 5);
    for (const int32_t block : blocks) scene.add(range(4 * block, 4 * block + 4));
    EXPECT_LE(scene.error(*attention, 19, 1), kExact);
    EXPECT_LE(scene.error(*attention, 5, 9), kExact);
  }
  Scene scattered(6, 3, 7, 5);
  scattered.add({9, 2, 14, 0, 5});
  EXPECT_LE(scattered.error(*attention, 5, 8), kExact);
}

TEST_P(AttentionConformance, ReadsHeadsOfDifferentCounts) {
  Scene scene(6, 3, 7, 5);
  scene.add(range(0, 4), 0, 3);
  scene.add({4, 6}, 0, 1);
  scene.add({5, 6, 8, 9}, 1, 2);
  scene.add({9}, 2, 3);
  EXPECT_FALSE(scene.view.uniform());
  EXPECT_LE(scene.error(*attention, 9, 1), kExact);
  EXPECT_LE(scene.error(*attention, 3, 7), kExact);
  // One head holds nothing at all.
  Scene hole(6, 2, 7, 5);
  hole.add(range(0, 6), 1, 2);
  EXPECT_LE(hole.error(*attention, 4, 2), kExact);
}

TEST_P(AttentionConformance, ObeysTheModelsWindow) {
  for (const int64_t window : {1, 2, 4, 11, 12, 13}) {
    Scene scene(6, 3, 7, 5);
    scene.add(range(0, 12));
    scene.model_window = window;
    EXPECT_LE(scene.error(*attention, 11, 1), kExact) << window;
    EXPECT_LE(scene.error(*attention, 0, 12), kExact) << window;
  }
}

TEST_P(AttentionConformance, ObeysTheViewsWindowAndSinks) {
  for (const int64_t window : {1, 3, 12}) {
    for (const int64_t sinks : {0, 1, 4}) {
      for (const int64_t model_window : {0, 5}) {
        Scene scene(6, 3, 7, 5);
        scene.add(range(0, 6));
        scene.add(range(6, 12));
        scene.view.window = window;
        scene.view.sinks = sinks;
        scene.model_window = model_window;
        EXPECT_LE(scene.error(*attention, 11, 1), kExact) << window << " " << sinks;
        EXPECT_LE(scene.error(*attention, 2, 10), kExact) << window << " " << sinks;
      }
    }
  }
}

TEST_P(AttentionConformance, AddsAlibiByDistance) {
  if (!attention->traits().supports_bias) return;
  for (const int64_t heads : {8, 12}) {
    Scene scene(heads, heads / 2, 7, 5);
    scene.position_name = "alibi";
    scene.add(range(0, 9));
    scene.add(range(9, 17));
    EXPECT_LE(scene.error(*attention, 16, 1), kExact);
    EXPECT_LE(scene.error(*attention, 3, 14), kExact);
  }
  Scene ragged(12, 3, 7, 5);
  ragged.position_name = "alibi";
  ragged.add(range(0, 5), 0, 3);
  ragged.add({6, 7}, 1, 2);
  EXPECT_LE(ragged.error(*attention, 5, 3), kExact);
}

TEST_P(AttentionConformance, ReadsBf16EntriesWithF32Queries) {
  // token_key and token_value are exact in bf16, so nothing but fp32 arithmetic is left.
  Scene scene(6, 3, 7, 5, at::kBFloat16);
  scene.add(range(0, 7));
  scene.add(range(7, 15));
  EXPECT_LE(scene.error(*attention, 14, 1), kExact);
  EXPECT_LE(scene.error(*attention, 2, 13), kExact);
}

TEST_P(AttentionConformance, AccumulatesBf16QueriesInF32) {
  for (const std::string position : {"none", "alibi"}) {
    if (position == "alibi" && !attention->traits().supports_bias) continue;
    Scene scene(6, 3, 8, 8, at::kBFloat16);
    scene.query_dtype = at::kBFloat16;
    scene.position_name = position;
    scene.add(range(0, 400));
    EXPECT_LE(scene.error(*attention, 399, 1), kHalf) << position;
    EXPECT_LE(scene.error(*attention, 390, 10), kHalf) << position;
  }
}

TEST_P(AttentionConformance, AnswersMoreQueriesThanItHoldsAtOnce) {
  for (const int64_t window : {0, 100}) {
    Scene scene(4, 2, 7, 5);
    scene.model_window = window;
    scene.add(range(0, 300));
    scene.add(range(300, 530));
    EXPECT_LE(scene.error(*attention, 0, 530), kExact);
    EXPECT_LE(scene.error(*attention, 17, 257), kExact);
  }
}

TEST_P(AttentionConformance, GathersNothingForARowWithoutQueries) {
  Scene scene(6, 3, 7, 5);
  scene.add(range(0, 4));
  scene.add(range(4, 8));
  scene.run(*attention, 8, 0);
  EXPECT_EQ(attention->gathered_bytes(), 0);
}

INSTANTIATE_TEST_SUITE_P(Registry, AttentionConformance,
                         testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& entry : builtin_registry().attentions()) {
                             names.push_back(entry.info.name);
                           }
                           return names;
                         }()),
                         [](const auto& information) { return information.param; });

}  // namespace
}  // namespace kvlab::conformance

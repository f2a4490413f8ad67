#include "kvlab/kernels/segment_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kvlab/kernels/target.h"

namespace kvlab::kernels {
namespace {

// One row over keys and values [G,T,D] in fp32, cut into runs of `block`.
struct Scene {
  int64_t heads = 6, kv_heads = 2, dim = 64, entries = 0, queries = 1, block = 0;
  std::vector<float> keys, values, query, output;
  std::vector<EntryRun> runs;
  QueryRow row;
  SegmentAttentionTask task;

  Scene(int64_t length, int64_t asked, int64_t run_length)
      : entries(length), queries(asked), block(run_length) {
    std::mt19937 random(static_cast<unsigned>(length + asked));
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>& to, int64_t count) {
      to.resize(static_cast<size_t>(count));
      for (float& number : to) number = normal(random);
    };
    fill(keys, kv_heads * entries * dim);
    fill(values, kv_heads * entries * dim);
    fill(query, queries * heads * dim);
    output.assign(query.size(), std::numeric_limits<float>::quiet_NaN());
    for (int64_t first = 0; first < entries; first += block) {
      EntryRun run;
      run.keys.data = keys.data() + first * dim;
      run.keys.token_stride = dim;
      run.keys.head_stride = entries * dim;
      run.values = run.keys;
      run.values.data = values.data() + first * dim;
      run.count = std::min(block, entries - first);
      run.first_position = first;
      run.head_end = kv_heads;
      runs.push_back(run);
    }
    row.end_run = static_cast<int64_t>(runs.size());
    row.first_position = entries - queries;
    row.count = queries;
  }

  const SegmentAttentionTask& ready() {
    task.query = query.data();
    task.output = output.data();
    task.query_token_stride = task.output_token_stride = heads * dim;
    task.query_head_stride = task.output_head_stride = dim;
    task.heads = heads;
    task.kv_heads = kv_heads;
    task.key_dim = task.value_dim = dim;
    task.runs = runs;
    task.rows = {&row, 1};
    task.scale = 0.125F;
    return task;
  }

  // Largest distance to the same in double precision, over the largest output.
  double error() const {
    double worst = 0, largest = 0;
    for (int64_t q = 0; q < queries; ++q) {
      for (int64_t head = 0; head < heads; ++head) {
        const int64_t stored = head / (heads / kv_heads);
        const float* const asked = query.data() + (q * heads + head) * dim;
        std::vector<double> sums(static_cast<size_t>(dim), 0);
        std::vector<double> scores;
        double most = -1e300, total = 0;
        for (int64_t e = 0; e <= row.first_position + q; ++e) {
          double score = 0;
          for (int64_t d = 0; d < dim; ++d) {
            score += double{asked[d]} * keys[static_cast<size_t>((stored * entries + e) * dim + d)];
          }
          scores.push_back(score * 0.125);
          most = std::max(most, scores.back());
        }
        for (size_t e = 0; e < scores.size(); ++e) {
          const double weight = std::exp(scores[e] - most);
          total += weight;
          for (int64_t d = 0; d < dim; ++d) {
            sums[static_cast<size_t>(d)] +=
                weight *
                values[(static_cast<size_t>(stored * entries) + e) * static_cast<size_t>(dim) +
                       static_cast<size_t>(d)];
          }
        }
        for (int64_t d = 0; d < dim; ++d) {
          const double wanted = sums[static_cast<size_t>(d)] / total;
          largest = std::max(largest, std::abs(wanted));
          const double off =
              std::abs(output[static_cast<size_t>((q * heads + head) * dim + d)] - wanted);
          worst = std::isnan(off) ? 1 : std::max(worst, off);
        }
      }
    }
    return worst / largest;
  }
};

TEST(SegmentAttention, IsAFewRoundingsFromDoublePrecisionOnEveryTarget) {
  const std::string before = target();
  for (const std::string& name : available_targets()) {
    use_target(name);
    for (const int64_t queries : {1, 5, 40}) {
      for (const int64_t block : {16, 700}) {
        Scene scene(700, queries, block);
        SegmentAttention attention;
        attention.forward(scene.ready(), nullptr);
        EXPECT_LT(scene.error(), 2e-6) << name << ", " << queries << " queries, block " << block;
      }
    }
  }
  use_target(before);
}

TEST(SegmentAttention, SharedAndSeparateLoadsAgree) {
  Scene together(900, 1, 64), apart(900, 1, 64);
  SegmentAttention attention;
  attention.forward(together.ready(), nullptr);
  apart.ready();
  apart.task.share_loads = false;
  attention.forward(apart.task, nullptr);
  EXPECT_LT(apart.error(), 2e-6);
}

TEST(SegmentAttention, ThreadsDoNotChangeABit) {
  for (const int64_t queries : {1, 50}) {
    Scene alone(1500, queries, 32);
    SegmentAttention attention;
    attention.forward(alone.ready(), nullptr);
    for (const int threads : {2, 3}) {
      ThreadPool pool(threads);
      Scene shared(1500, queries, 32);
      attention.forward(shared.ready(), &pool);
      EXPECT_EQ(std::memcmp(alone.output.data(), shared.output.data(),
                            alone.output.size() * sizeof(float)),
                0)
          << threads << " threads, " << queries << " queries";
    }
  }
}

TEST(SegmentAttention, NothingGrowsAfterTheFirstCall) {
  ThreadPool pool(2);
  SegmentAttention attention;
  Scene scene(1024, 1, 16);
  attention.forward(scene.ready(), &pool);
  const int64_t bytes = attention.bytes();
  attention.forward(scene.ready(), &pool);
  EXPECT_EQ(attention.bytes(), bytes);
  EXPECT_GT(bytes, 0);
}

// NaN in the weights of a model must reach the check for NaN, not vanish in a softmax.
TEST(SegmentAttention, NaNComesThrough) {
  for (const int64_t queries : {1, 40}) {
    Scene scene(300, queries, 300);
    scene.query[3] = std::numeric_limits<float>::quiet_NaN();
    SegmentAttention attention;
    attention.forward(scene.ready(), nullptr);
    EXPECT_TRUE(std::isnan(scene.output[0])) << queries << " queries";
    EXPECT_FALSE(std::isnan(scene.output[static_cast<size_t>(scene.dim)]));
  }
}

TEST(SegmentAttention, ColumnSumsOfAllQueriesAddUpToTheirNumber) {
  Scene scene(600, 70, 100);
  SegmentAttention attention;
  attention.forward(scene.ready(), nullptr);
  std::vector<float> sums(static_cast<size_t>(scene.kv_heads * scene.entries), -1.0F);
  std::vector<float*> to;
  for (int64_t head = 0; head < scene.kv_heads; ++head) {
    to.push_back(sums.data() + head * scene.entries);
  }
  ColumnRequest request;
  request.to = to;
  attention.column_sums(scene.task, request, nullptr);
  for (int64_t head = 0; head < scene.kv_heads; ++head) {
    double total = 0;
    for (int64_t e = 0; e < scene.entries; ++e) {
      total += sums[static_cast<size_t>(head * scene.entries + e)];
    }
    EXPECT_NEAR(total, static_cast<double>(scene.queries * scene.heads / scene.kv_heads), 1e-3);
  }
}

}  // namespace
}  // namespace kvlab::kernels

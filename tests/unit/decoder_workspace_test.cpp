// A plan of a step's buffers that failed half-way must not count as one. The buffers are private to
// the decoder, hence the private header.
#include <gtest/gtest.h>

#include <exception>

#include "framework/src/model/decoder_buffers.h"

namespace kvlab {
namespace {

constexpr int64_t kTokens = 5;
constexpr int64_t kTooMany = int64_t{1} << 40;  // beyond any machine's addresses

ModelConfig tiny_config() {
  ModelConfig config;
  config.d_model = 64;
  config.layers = 2;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 16;
  config.d_mlp = 128;
  return config;
}

void expect_planned(DecoderBuffers& buffers, const ModelConfig& config) {
  EXPECT_EQ(buffers.embedding.const_data_ptr(), buffers.x.need(kTokens * config.d_model));
  EXPECT_EQ(buffers.attended.const_data_ptr(),
            buffers.mixed.need(kTokens * config.n_heads * config.head_dim));
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const Projections& projections = buffers.projections(static_cast<size_t>(layer));
    ASSERT_NE(projections.data, nullptr);
    EXPECT_EQ(projections.query.const_data_ptr(), projections.data);
    EXPECT_EQ(projections.key.size(0), kTokens);
  }
}

TEST(DecoderWorkspace, AStepAfterOneThatWasTooLargeIsPlannedAnew) {
  const ModelConfig config = tiny_config();
  DecoderBuffers buffers;
  buffers.begin_step(config, kTokens, at::kFloat);
  EXPECT_THROW(buffers.begin_step(config, kTooMany, at::kFloat), std::exception);
  buffers.begin_step(config, kTokens, at::kFloat);
  expect_planned(buffers, config);
}

TEST(DecoderWorkspace, AStepWhoseProjectionsDidNotFitIsPlannedAnew) {
  ModelConfig config = tiny_config();
  config.layers = kTooMany;
  DecoderBuffers buffers;
  EXPECT_THROW(buffers.begin_step(config, kTokens, at::kFloat), std::exception);
  EXPECT_THROW(buffers.begin_step(config, kTokens, at::kFloat), std::exception);
  config.layers = 2;
  buffers.begin_step(config, kTokens, at::kFloat);
  expect_planned(buffers, config);
}

}  // namespace
}  // namespace kvlab

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kvlab/runtime/process.h"
#include "kvlab/runtime/registry.h"
#include "kvlab/runtime/session.h"
#include "tests/allocations/allocation_counter.h"

namespace kvlab {
namespace {

constexpr int64_t kPrompt = 40, kLength = 300, kRows = 2;

// Large enough that every buffer of a step is above the limit: 2 rows of logits are 64 KB.
Model decoder_of(at::ScalarType weights) {
  ModelSource source;
  source.name = "random";
  ModelConfig& shape = source.shape;
  shape.name = "random";
  shape.vocabulary = 8192;
  shape.context = 512;
  shape.d_model = 1152;
  shape.layers = 2;
  shape.n_heads = 18;
  shape.n_kv_heads = 6;
  shape.head_dim = 64;
  shape.d_mlp = 2048;
  shape.norm = NormType::rmsnorm;
  shape.mlp = MlpType::swiglu;
  shape.qkv_bias = shape.output_bias = shape.mlp_bias = false;
  shape.position = ComponentSpec{"rope", {}, ""};
  source.seed = 11;
  return load_model(source, weights, at::kFloat);
}

void feed(Session& session, const std::vector<std::vector<int32_t>>& texts, int64_t end) {
  std::vector<RowFeed> feeds;
  for (int64_t row = 0; row < kRows; ++row) {
    RowFeed part;
    part.row = static_cast<int>(row);
    part.text = texts[static_cast<size_t>(row)];
    part.end = end;
    part.phase = end == kPrompt ? Phase::prefill : Phase::decode;
    feeds.push_back(part);
  }
  session.step(feeds, [](int, int64_t, std::span<const float>) {});
}

void fill(Session& session, const std::vector<std::vector<int32_t>>& texts) {
  session.reset();
  for (int64_t end = kPrompt; end <= kLength; ++end) feed(session, texts, end);
}

struct Case {
  std::string cache, cache_dtype;
  at::ScalarType weights;
};

class DecodeAllocations : public testing::TestWithParam<Case> {};

// The row has been this long before: blocks are open, buffers planned, pages touched.
TEST_P(DecodeAllocations, NoneIsLargeAndNoPageIsTouchedFirst) {
  prepare_process();
  set_threads(2);
  Registry registry;
  register_builtin_plugins(registry);
  const Model model = decoder_of(GetParam().weights);
  SessionOptions options;
  options.cache = parse_component_spec(GetParam().cache);
  options.cache_dtype = parse_dtype(GetParam().cache_dtype);
  options.rows = kRows;
  options.max_length = kLength;
  Session session(model, registry, options);
  std::vector<std::vector<int32_t>> texts(kRows);
  for (size_t row = 0; row < kRows; ++row) {
    for (int32_t i = 0; i < kLength; ++i) {
      texts[row].push_back((i * 37 + static_cast<int32_t>(row) * 11) % 8192);
    }
  }
  fill(session, texts);
  session.reset();
  feed(session, texts, kPrompt);
  feed(session, texts, kPrompt + 1);  // from a prompt's step to a token's
  AllocationCounter counter;
  counter.start();
  for (int64_t end = kPrompt + 2; end <= kLength; ++end) feed(session, texts, end);
  const AllocationCounts counts = counter.stop();
  EXPECT_EQ(counts.large, 0) << counts.all << " allocations of any size";
  EXPECT_EQ(counts.page_faults, 0);
}

// The counters themselves.
TEST(AllocationCounting, SeesWhatLibrariesAndThisProgramAllocate) {
  AllocationCounter counter;
  counter.start();
  const auto memory = std::make_unique<std::vector<char>>(size_t{64} << 20, 'x');
  const AllocationCounts counts = counter.stop();
  EXPECT_EQ((*memory)[12345], 'x');
  EXPECT_GE(counts.large, 1);
  EXPECT_GE(counts.all, 2);
  EXPECT_GE(counts.page_faults, 1);
}

INSTANTIATE_TEST_SUITE_P(
    Caches, DecodeAllocations,
    testing::Values(Case{"preallocated", "f32", at::kFloat}, Case{"paged", "f32", at::kFloat},
                    Case{"paged:block_size=16", "bf16", at::kBFloat16},
                    Case{"preallocated", "bf16", at::kChar}),
    [](const auto& tested) {
      std::string name = tested.param.cache + "_" + tested.param.cache_dtype + "_weights_" +
                         dtype_name(tested.param.weights);
      for (char& letter : name) {
        if (std::isalnum(static_cast<unsigned char>(letter)) == 0) letter = '_';
      }
      return name;
    });

}  // namespace
}  // namespace kvlab

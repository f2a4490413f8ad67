#include "fused_attention.h"

#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

#include "kvlab/core/error.h"

namespace kvlab::plugins {
namespace {

class Bare final : public PositionEncoding {
 public:
  Bare() : PositionEncoding("bare") {}
  const PositionTraits& traits() const override { return traits_; }

 private:
  PositionTraits traits_;
};

KVSegment part(const at::Tensor& keys, const at::Tensor& values, int64_t first, int64_t count) {
  const at::Tensor k = keys.narrow(1, first, count), v = values.narrow(1, first, count);
  KVSegment segment;
  segment.keys = {k.const_data_ptr(), k.stride(1), k.stride(0), k.scalar_type()};
  segment.values = {v.const_data_ptr(), v.stride(1), v.stride(0), v.scalar_type()};
  segment.count = count;
  segment.first_position = first;
  segment.head_end = static_cast<int>(keys.size(0));
  return segment;
}

// `count` queries of one row at `first` and on, over keys and values cut into runs of `block`.
at::Tensor attend(FusedAttention& attention, const at::Tensor& query, const at::Tensor& keys,
                  const at::Tensor& values, int64_t first, int64_t block) {
  KVView view;
  view.begin(keys.size(0), keys.size(2), values.size(2));
  view.begin_slice();
  for (int64_t at = 0; at < keys.size(1); at += block) {
    view.add(part(keys, values, at, std::min(block, keys.size(1) - at)));
  }
  StepPlan plan;
  RowSlice slice;
  slice.first_position = first;
  slice.count = query.size(0);
  plan.add(slice, std::vector<int32_t>(static_cast<size_t>(slice.count), 1));
  at::Tensor output = at::full({query.size(0), query.size(1), values.size(2)}, -1.0F);
  StorageArena scratch;
  const Bare position;
  attention.forward({query, output, plan, view, position, scratch, 1.0F, 0});
  EXPECT_EQ(scratch.allocations(), 0);
  return output;
}

TEST(FusedAttention, ReadsSegmentsAndDeclaresWhatItGives) {
  const FusedAttention attention;
  const AttentionTraits& traits = attention.traits();
  EXPECT_TRUE(traits.reads_segments);
  EXPECT_TRUE(traits.supports_bias);
  EXPECT_EQ(traits.feedback.size(), 2U);
}

TEST(FusedAttention, GathersNothingFromBlocks) {
  FusedAttention attention;
  const at::Tensor keys = at::zeros({2, 70, 8}), values = at::zeros({2, 70, 4});
  for (int64_t t = 0; t < 70; ++t) values.select(1, t).fill_(static_cast<float>(t));
  const at::Tensor output = attend(attention, at::zeros({1, 4, 8}), keys, values, 69, 16);
  EXPECT_TRUE(output.sub(34.5).abs().le(1e-5).all().item<bool>());
  EXPECT_EQ(attention.gathered_bytes(), 0);
}

TEST(FusedAttention, HeadsOnTheirOwnGiveTheSameAnswer) {
  FusedAttention together, apart({.share_loads = false});
  const at::Tensor keys = at::randn({2, 300, 20}), values = at::randn({2, 300, 12});
  for (const int64_t queries : {1, 40}) {
    const at::Tensor query = at::randn({queries, 6, 20});
    const at::Tensor left = attend(together, query, keys, values, 300 - queries, 300);
    const at::Tensor right = attend(apart, query, keys, values, 300 - queries, 300);
    EXPECT_LT(left.sub(right).abs().max().item<float>(), 1e-5) << queries << " queries";
  }
}

TEST(FusedAttention, BuffersStopGrowingAfterTheFirstStep) {
  FusedAttention attention;
  const at::Tensor keys = at::randn({2, 600, 16}), values = at::randn({2, 600, 16});
  const at::Tensor query = at::randn({1, 4, 16});
  attend(attention, query, keys, values, 599, 16);
  const int64_t bytes = attention.buffer_bytes();
  for (int i = 0; i < 3; ++i) attend(attention, query, keys, values, 599, 16);
  EXPECT_EQ(attention.buffer_bytes(), bytes);
}

TEST(FusedAttention, RefusesTypesItCannotRead) {
  FusedAttention attention;
  const at::Tensor keys = at::zeros({1, 3, 4}, at::kDouble), values = at::zeros({1, 3, 4});
  EXPECT_THROW(attend(attention, at::zeros({1, 1, 4}), keys, values, 2, 3), UserError);
}

}  // namespace
}  // namespace kvlab::plugins

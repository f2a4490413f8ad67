#include "sdpa_attention.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

namespace kvlab::plugins {
namespace {

class Bare final : public PositionEncoding {
 public:
  Bare() : PositionEncoding("bare") {}
  const PositionTraits& traits() const override { return traits_; }

 private:
  PositionTraits traits_;
};

KVSegment whole(const at::Tensor& keys, const at::Tensor& values) {
  KVSegment segment;
  segment.keys = {keys.const_data_ptr(), keys.stride(1), keys.stride(0), keys.scalar_type()};
  segment.values = {values.const_data_ptr(), values.stride(1), values.stride(0),
                    values.scalar_type()};
  segment.count = keys.size(1);
  segment.head_end = static_cast<int>(keys.size(0));
  return segment;
}

TEST(SdpaAttention, SupportsBiasAndDeclaresIt) {
  EXPECT_TRUE(SdpaAttention().traits().supports_bias);
  EXPECT_FALSE(SdpaAttention().traits().reads_segments);
}

// The library's is_causal would let one query among four keys see the first alone. Equal keys give
// equal weights, so that the output is the mean of all four values.
TEST(SdpaAttention, OneNewQuerySeesEveryKey) {
  SdpaAttention attention;
  const at::Tensor keys = at::zeros({1, 4, 3}), values = at::zeros({1, 4, 2});
  for (int64_t t = 0; t < 4; ++t) values[0][t].fill_(static_cast<float>(t));
  KVView view;
  view.begin(1, 3, 2);
  view.begin_slice();
  view.add(whole(keys, values));
  StepPlan plan;
  RowSlice slice;
  slice.first_position = 3;
  slice.count = 1;
  plan.add(slice, std::vector<int32_t>{1});
  const at::Tensor query = at::zeros({1, 2, 3});
  at::Tensor output = at::full({1, 2, 2}, -1.0F);
  StorageArena scratch;
  const Bare position;
  attention.forward({query, output, plan, view, position, scratch, 1.0F, 0});
  EXPECT_TRUE(output.eq(1.5).all().item<bool>());
}

}  // namespace
}  // namespace kvlab::plugins

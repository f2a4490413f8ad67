// What is special about @NAME@. What every attention must do is tested by the conformance kit already.
#include "@NAME@_attention.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <vector>

namespace kvlab::plugins {
namespace {

class NoPosition final : public PositionEncoding {
 public:
  NoPosition() : PositionEncoding("no_position") {}
  const PositionTraits& traits() const override { return traits_; }

 private:
  PositionTraits traits_;
};

// Equal keys give equal weights, so that the output is the mean of what a query sees.
TEST(@CLASS@Attention, AveragesWhatAQuerySeesWhereAllKeysAreEqual) {
  const at::Tensor keys = at::zeros({1, 4, 3}), values = at::zeros({1, 4, 2});
  for (int64_t t = 0; t < 4; ++t) values[0][t].fill_(static_cast<float>(t));
  KVSegment all;
  all.keys = {keys.const_data_ptr(), 3, 12, at::kFloat};
  all.values = {values.const_data_ptr(), 2, 8, at::kFloat};
  all.count = 4;
  all.head_end = 1;
  KVView view;
  view.begin(1, 3, 2);
  view.begin_slice();
  view.add(all);
  RowSlice slice;
  slice.first_position = 1;
  slice.count = 3;
  StepPlan plan;
  plan.add(slice, std::vector<int32_t>{1, 1, 1});
  const at::Tensor query = at::zeros({3, 2, 3});
  at::Tensor output = at::full({3, 2, 2}, -1.0F);
  StorageArena scratch;
  const NoPosition position;
  @CLASS@Attention attention;
  attention.forward({query, output, plan, view, position, scratch, 1.0F, 0});
  for (int64_t q = 0; q < 3; ++q) {
    EXPECT_TRUE(output[q].eq((static_cast<double>(q) + 1) / 2).all().item<bool>()) << q;
  }
}

}  // namespace
}  // namespace kvlab::plugins

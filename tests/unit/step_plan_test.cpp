#include "kvlab/core/step_plan.h"

#include <gtest/gtest.h>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

RowSlice slice_of(int row, int64_t first, int64_t count,
                  WantedLogits wanted = WantedLogits::last) {
  RowSlice slice;
  slice.row = row;
  slice.first_position = first;
  slice.count = count;
  slice.wanted = wanted;
  return slice;
}

const std::vector<int32_t> kThree = {7, 8, 9};

TEST(StepPlan, PacksRowsBehindEachOther) {
  StepPlan plan;
  plan.add(slice_of(2, 5, 3), kThree);
  plan.add(slice_of(0, 0, 0), {});
  plan.add(slice_of(1, 9, 2), std::span(kThree).first(2));
  ASSERT_EQ(plan.slices().size(), 3U);
  EXPECT_EQ(plan.num_tokens(), 5);
  EXPECT_EQ(plan.slices()[0].offset, 0);
  EXPECT_EQ(plan.slices()[1].offset, 3);
  EXPECT_EQ(plan.slices()[2].offset, 3);
  EXPECT_EQ(plan.slices()[0].end_position(), 8);
  EXPECT_EQ(plan.tokens(plan.slices()[0])[2], 9);
  EXPECT_TRUE(plan.tokens(plan.slices()[1]).empty());
  EXPECT_EQ(plan.tokens(plan.slices()[2])[1], 8);
}

TEST(StepPlan, ListsWantedLogitsOnce) {
  StepPlan plan;
  plan.add(slice_of(0, 0, 3, WantedLogits::last), kThree);
  plan.add(slice_of(1, 0, 3, WantedLogits::none), kThree);
  plan.add(slice_of(2, 0, 3, WantedLogits::all), kThree);
  plan.add(slice_of(3, 0, 0, WantedLogits::last), {});
  const auto wanted = plan.wanted();
  EXPECT_EQ(std::vector<int64_t>(wanted.begin(), wanted.end()),
            (std::vector<int64_t>{2, 6, 7, 8}));
}

TEST(StepPlan, RefusesARowTwice) {
  StepPlan plan;
  plan.add(slice_of(1, 0, 3), kThree);
  EXPECT_THROW(plan.add(slice_of(1, 3, 3), kThree), UserError);
  EXPECT_EQ(plan.num_tokens(), 3);
  EXPECT_EQ(plan.slices().size(), 1U);
}

TEST(StepPlan, RefusesNegativePositionsAndOtherCounts) {
  StepPlan plan;
  EXPECT_THROW(plan.add(slice_of(0, -1, 3), kThree), UserError);
  EXPECT_THROW(plan.add(slice_of(0, 0, 2), kThree), UserError);
  EXPECT_THROW(plan.add(slice_of(0, 0, 4), kThree), UserError);
  EXPECT_EQ(plan.num_tokens(), 0);
}

TEST(StepPlan, ForgetsEverythingOnClear) {
  StepPlan plan;
  plan.add(slice_of(0, 0, 3), kThree);
  plan.clear();
  EXPECT_TRUE(plan.slices().empty());
  EXPECT_TRUE(plan.tokens().empty());
  EXPECT_TRUE(plan.wanted().empty());
  plan.add(slice_of(0, 0, 3), kThree);
  EXPECT_EQ(plan.slices()[0].offset, 0);
}

}  // namespace
}  // namespace kvlab

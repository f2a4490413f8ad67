#include "kvlab/core/step_plan.h"

#include "kvlab/core/error.h"

namespace kvlab {

void StepPlan::clear() {
  slices_.clear();
  tokens_.clear();
  wanted_.clear();
}

void StepPlan::add(const RowSlice& slice_without_offset, std::span<const int32_t> tokens) {
  RowSlice slice = slice_without_offset;
  KVLAB_CHECK_GE(slice.first_position, 0, "[core.step_plan] first position of row ", slice.row);
  KVLAB_CHECK_EQ(slice.count, static_cast<int64_t>(tokens.size()),
                 "[core.step_plan] count of row ", slice.row, " must match its tokens");
  for (const RowSlice& other : slices_) {
    KVLAB_CHECK(other.row != slice.row, "[core.step_plan] row ", slice.row,
                " is already in this step; a row appears once per step");
  }
  slice.offset = num_tokens();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  if (slice.wanted == WantedLogits::all) {
    for (int64_t i = 0; i < slice.count; ++i) wanted_.push_back(slice.offset + i);
  } else if (slice.wanted == WantedLogits::last && slice.count > 0) {
    wanted_.push_back(slice.offset + slice.count - 1);
  }
  slices_.push_back(slice);
}

std::span<const int32_t> StepPlan::tokens(const RowSlice& slice) const {
  return std::span<const int32_t>(tokens_).subspan(static_cast<size_t>(slice.offset),
                                                   static_cast<size_t>(slice.count));
}

}  // namespace kvlab

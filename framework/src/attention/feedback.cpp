#include "kvlab/attention/feedback.h"

#include "kvlab/core/error.h"

namespace kvlab {

void FeedbackBuffer::begin(const FeedbackRequest& request, const KVView& view) {
  request_ = request;
  heads_ = view.num_kv_heads();
  starts_.clear();
  size_t total = 0;
  for (int64_t slice = 0; slice < view.num_slices(); ++slice) {
    for (int64_t head = 0; head < heads_; ++head) {
      starts_.push_back(total);
      total += static_cast<size_t>(view.count(slice, head));
    }
  }
  starts_.push_back(total);
  values_.assign(total, 0.0F);
}

std::span<float> FeedbackBuffer::values(int64_t slice, int64_t head) {
  const auto index = static_cast<size_t>(slice * heads_ + head);
  KVLAB_INVARIANT(head >= 0 && head < heads_ && index + 1 < starts_.size(),
                  "[attention.feedback] slice ", slice, ", head ", head, " of ", heads_);
  return std::span<float>(values_).subspan(starts_[index], starts_[index + 1] - starts_[index]);
}

std::span<const float> FeedbackBuffer::entries(int64_t slice, int64_t head) const {
  return const_cast<FeedbackBuffer*>(this)->values(slice, head);
}

}  // namespace kvlab

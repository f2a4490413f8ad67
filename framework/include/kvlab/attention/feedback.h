// What attention tells a cache about its probabilities: one number per stored entry and KV head, never
// the score matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kvlab/cache/cache_shape.h"
#include "kvlab/cache/kv_view.h"

namespace kvlab {

/// Reductions of one layer's attention probabilities, for caches that asked.
class AttentionFeedback {
 public:
  virtual ~AttentionFeedback() = default;
  /// The e-th value belongs to the e-th entry met walking `view.segments(slice)` that covers `head`.
  virtual std::span<const float> entries(int64_t slice, int64_t head) const = 0;
};

/// The reductions of one layer and step, for attention plugins to fill.
///
/// The value of an entry is, for each query head of the group that reads the KV head, the sum of its
/// probabilities over the slice's queries (`column_sums`: all of them; `last_rows`: the last
/// `request.rows`, or all where there are fewer); these sums are then reduced over the group.
class FeedbackBuffer final : public AttentionFeedback {
 public:
  /// Makes room for every slice and head of `view`, all zeros. Keeps memory of earlier use.
  void begin(const FeedbackRequest& request, const KVView& view);

  const FeedbackRequest& request() const { return request_; }
  std::span<float> values(int64_t slice, int64_t head);
  std::span<const float> entries(int64_t slice, int64_t head) const override;

 private:
  FeedbackRequest request_;
  int64_t heads_ = 0;
  std::vector<float> values_;
  std::vector<size_t> starts_;  // of (slice, head), and the end
};

}  // namespace kvlab

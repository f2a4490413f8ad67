#include "kvlab/attention/dense_attention.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab {

void DenseAttention::forward(const AttentionInput& input) {
  int64_t index = 0;
  for (const RowSlice& slice : input.plan.slices()) {
    const int64_t current = index++;
    if (slice.count == 0) {  // nothing asks: gather nothing
      if (input.feedback != nullptr) clear_feedback(input, current);
      continue;
    }
    const DenseKV kv = input.view.dense(current, input.position, input.scratch);
    gathered_bytes_ += kv.gathered_bytes;
    if (input.feedback != nullptr) begin_feedback(input, slice, kv.keys.size(1));
    for (int64_t first = 0; first < slice.count; first += std::min(queries_at_once_, slice.count)) {
      RowSlice part = slice;
      part.first_position += first;
      part.offset += first;
      part.count = std::min(queries_at_once_, slice.count - first);
      at::Tensor output = input.output.narrow(0, part.offset, part.count);
      if (kv.keys.size(1) == 0) {
        output.zero_();
        continue;
      }
      Shape shape;
      shape.heads = input.query.size(1);
      shape.stored = input.view.num_kv_heads();
      shape.group = shape.heads / shape.stored;
      shape.queries = part.count;
      shape.entries = kv.keys.size(1);
      shape.key_dim = input.query.size(2);
      shape.value_dim = input.output.size(2);
      attend(input, part, kv, shape, input.query.narrow(0, part.offset, part.count), output);
    }
    if (input.feedback != nullptr) end_feedback(input, current);
  }
}

void DenseAttention::clear_feedback(const AttentionInput& input, int64_t index) {
  for (int64_t head = 0; head < input.view.num_kv_heads(); ++head) {
    const std::span<float> values = input.feedback->values(index, head);
    std::fill(values.begin(), values.end(), 0.0F);
  }
}

void DenseAttention::begin_feedback(const AttentionInput& input, const RowSlice& slice,
                                    int64_t entries) {
  const FeedbackRequest& request = input.feedback->request();
  KVLAB_INVARIANT(std::find(traits_.feedback.begin(), traits_.feedback.end(), request.kind) !=
                      traits_.feedback.end(),
                  "[attention.", name(), "] feedback that the traits do not declare");
  const int64_t stored = input.view.num_kv_heads();
  column_sums_ = at::zeros({stored, input.query.size(1) / stored, entries}, at::kFloat);
  const bool all = request.kind == FeedbackRequest::Kind::column_sums;
  first_counted_position_ = slice.first_position;
  if (!all) first_counted_position_ += std::max<int64_t>(0, slice.count - request.rows);
}

void DenseAttention::add_feedback(const AttentionInput& input, const RowSlice& slice,
                                  const at::Tensor& probabilities) {
  if (input.feedback == nullptr) return;
  const int64_t first = std::max<int64_t>(0, first_counted_position_ - slice.first_position);
  if (first >= slice.count) return;
  column_sums_.add_(probabilities.narrow(2, first, slice.count - first).sum(2));
}

void DenseAttention::end_feedback(const AttentionInput& input, int64_t index) const {
  using Reduction = FeedbackRequest::GroupReduction;
  const Reduction reduction = input.feedback->request().reduction;
  at::Tensor reduced = reduction == Reduction::max    ? column_sums_.amax(1)
                       : reduction == Reduction::mean ? column_sums_.mean(1)
                                                      : column_sums_.sum(1);
  reduced = reduced.contiguous();
  // Heads with fewer entries are padded behind them.
  for (int64_t head = 0; head < reduced.size(0); ++head) {
    const std::span<float> to = input.feedback->values(index, head);
    std::copy_n(reduced.const_data_ptr<float>() + head * reduced.size(1), to.size(), to.begin());
  }
}

at::Tensor DenseAttention::by_stored_head(const at::Tensor& query, const Shape& shape) {
  return query.view({shape.queries, shape.stored, shape.group, shape.key_dim})
      .permute({1, 2, 0, 3})
      .reshape({shape.stored, shape.group * shape.queries, shape.key_dim});
}

at::Tensor DenseAttention::by_query(const at::Tensor& mixed, const Shape& shape) {
  return mixed.view({shape.stored, shape.group, shape.queries, shape.value_dim})
      .permute({2, 0, 1, 3})
      .reshape({shape.queries, shape.heads, shape.value_dim});
}

}  // namespace kvlab

#include "eager_attention.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/softmax.h>

#include <limits>

namespace kvlab::plugins {

namespace {

// Queries whose scores are held at once.
constexpr int64_t kQueriesAtOnce = 256;

}  // namespace

AttentionTraits eager_traits() {
  AttentionTraits traits;
  traits.supports_bias = true;
  traits.feedback = {FeedbackRequest::Kind::column_sums, FeedbackRequest::Kind::last_rows};
  return traits;
}

EagerAttention::EagerAttention() : DenseAttention("eager", eager_traits(), kQueriesAtOnce) {}

void EagerAttention::attend(const AttentionInput& input, const RowSlice& slice, const DenseKV& kv,
                            const Shape& shape, const at::Tensor& query, at::Tensor& output) {
  const at::Tensor rows = by_stored_head(query.to(at::kFloat), shape);
  at::Tensor scores = at::bmm(rows, kv.keys.to(at::kFloat).transpose(1, 2));  // [G, R*n, T]
  scores.mul_(input.scale);
  const at::Tensor bias = dense_bias(slice, kv, shape.heads, input.position.score_slopes());
  if (bias.defined()) scores.add_(bias.view(scores.sizes()));

  const DenseMask mask = dense_mask(slice, kv, input.window, input.view);
  const std::vector<int64_t> by_head = {shape.stored, shape.group, shape.queries, shape.entries};
  at::Tensor hidden;
  if (!mask.all_visible) {
    hidden = mask.hidden.unsqueeze(1);  // [G or 1, 1, n, T]
    scores.view(by_head).masked_fill_(hidden, -std::numeric_limits<float>::infinity());
  }
  at::Tensor probabilities = at::softmax(scores, -1);
  // A query that sees nothing has a row of NaN here; it gives zeros.
  if (hidden.defined()) probabilities.view(by_head).masked_fill_(hidden, 0);
  add_feedback(input, slice, probabilities.view(by_head));
  output.copy_(by_query(at::bmm(probabilities, kv.values.to(at::kFloat)), shape));
}

}  // namespace kvlab::plugins

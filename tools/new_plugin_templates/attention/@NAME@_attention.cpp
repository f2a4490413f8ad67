#include "@NAME@_attention.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/softmax.h>

#include <limits>

namespace kvlab::plugins {

// What you promise: the runtime asks before a run, and the conformance kit tests it.
AttentionTraits @NAME@_traits() {
  AttentionTraits traits;
  traits.supports_bias = true;
  return traits;
}

@CLASS@Attention::@CLASS@Attention() : DenseAttention("@NAME@", @NAME@_traits()) {}

// n queries [n,H,D] of one row over its T entries: keys [G,T,Dk], values [G,T,Dv]. The H / G query
// heads that read one stored head are rows of one matrix, so that K and V are never expanded.
void @CLASS@Attention::attend(const AttentionInput& input, const RowSlice& slice, const DenseKV& kv,
                              const Shape& shape, const at::Tensor& query, at::Tensor& output) {
  const at::Tensor rows = by_stored_head(query.to(at::kFloat), shape);
  const at::Tensor scores = at::bmm(rows, kv.keys.to(at::kFloat).transpose(1, 2));
  scores.mul_(input.scale);

  const at::Tensor bias = dense_bias(slice, kv, shape.heads, input.position.score_slopes());
  if (bias.defined()) scores.add_(bias.view(scores.sizes()));

  // Masks come from positions only: never from where an entry lies.
  const DenseMask mask = dense_mask(slice, kv, input.window, input.view);
  const at::Tensor by_head =
      scores.view({shape.stored, shape.group, shape.queries, shape.entries});
  if (!mask.all_visible) {
    by_head.masked_fill_(mask.hidden.unsqueeze(1), -std::numeric_limits<float>::infinity());
  }
  const at::Tensor weights = at::softmax(by_head, -1);
  // A query that sees nothing has a row of NaN here; it must give zeros.
  if (!mask.all_visible) weights.masked_fill_(mask.hidden.unsqueeze(1), 0);
  output.copy_(by_query(at::bmm(weights.view(scores.sizes()), kv.values.to(at::kFloat)), shape));
}

}  // namespace kvlab::plugins

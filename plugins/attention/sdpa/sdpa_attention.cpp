#include "sdpa_attention.h"

#include <ATen/ops/scaled_dot_product_attention.h>

#include <limits>
#include <optional>

namespace kvlab::plugins {

AttentionTraits sdpa_traits() {
  AttentionTraits traits;
  traits.supports_bias = true;
  return traits;
}

SdpaAttention::SdpaAttention() : DenseAttention("sdpa", sdpa_traits()) {}

void SdpaAttention::attend(const AttentionInput& input, const RowSlice& slice, const DenseKV& kv,
                           const Shape& shape, const at::Tensor& query, at::Tensor& output) {
  const at::ScalarType type = query.scalar_type();
  const std::vector<int64_t> by_head = {shape.stored, shape.group, shape.queries, shape.entries};
  const std::vector<int64_t> as_rows = {1, shape.stored, shape.group * shape.queries,
                                        shape.entries};
  const DenseMask visible = dense_mask(slice, kv, input.window, input.view);
  at::Tensor added = dense_bias(slice, kv, shape.heads, input.position.score_slopes());
  at::Tensor hidden;
  std::optional<at::Tensor> mask;
  if (added.defined()) added = added.view(by_head);
  if (!visible.all_visible) {
    hidden = visible.hidden.unsqueeze(1).expand(by_head);
    if (added.defined()) {
      added.masked_fill_(hidden, -std::numeric_limits<float>::infinity());
    } else {
      mask = hidden.logical_not().reshape(as_rows);
    }
  }
  if (added.defined()) mask = added.reshape(as_rows).to(type);

  at::Tensor mixed = at::scaled_dot_product_attention(
      by_stored_head(query, shape).unsqueeze(0), kv.keys.to(type).unsqueeze(0),
      kv.values.to(type).unsqueeze(0), mask, 0.0, false, static_cast<double>(input.scale));
  // A query that sees nothing gives zeros, whatever the library makes of it.
  if (hidden.defined()) {
    mixed = mixed.reshape({shape.stored, shape.group, shape.queries, shape.value_dim})
                .masked_fill(hidden.all(-1, true), 0);
  }
  output.copy_(by_query(mixed.contiguous(), shape));
}

}  // namespace kvlab::plugins

#include "sdpa_attention.h"

#include <ATen/ops/scaled_dot_product_attention.h>

#include <limits>
#include <optional>

namespace kvlab::plugins {

SdpaAttention::SdpaAttention() : Attention("sdpa") { traits_.supports_bias = true; }

void SdpaAttention::forward(const AttentionInput& input) {
  int64_t index = 0;
  for (const RowSlice& slice : input.plan.slices()) {
    const int64_t current = index++;
    if (slice.count == 0) continue;  // nothing asks: gather nothing
    const DenseKV kv = input.view.dense(current, input.position, input.scratch);
    gathered_bytes_ += kv.gathered_bytes;
    attend(input, kv, slice);
  }
}

// H query heads, G stored heads, R = H / G, n queries, T entries. The R * n queries that read one
// stored head are passed as that head's queries, so K and V are never expanded.
void SdpaAttention::attend(const AttentionInput& input, const DenseKV& kv, const RowSlice& slice) {
  const int64_t heads = input.query.size(1);
  const int64_t key_dim = input.query.size(2);
  const int64_t value_dim = input.output.size(2);
  const int64_t stored = input.view.num_kv_heads();
  const int64_t group = heads / stored;
  const int64_t queries = slice.count;
  const int64_t entries = kv.keys.size(1);

  at::Tensor output = input.output.narrow(0, slice.offset, queries);
  if (entries == 0) {
    output.zero_();
    return;
  }
  const at::ScalarType type = input.query.scalar_type();
  const at::Tensor query = input.query.narrow(0, slice.offset, queries)
                               .view({queries, stored, group, key_dim})
                               .permute({1, 2, 0, 3})
                               .reshape({1, stored, group * queries, key_dim});
  const at::Tensor keys = kv.keys.to(type).unsqueeze(0);
  const at::Tensor values = kv.values.to(type).unsqueeze(0);

  const DenseMask visible = dense_mask(slice, kv, input.window, input.view);
  at::Tensor added = dense_bias(slice, kv, heads, input.position.score_slopes());
  at::Tensor hidden;
  std::optional<at::Tensor> mask;
  if (added.defined()) added = added.view({stored, group, queries, entries});
  if (!visible.all_visible) {
    hidden = visible.hidden.unsqueeze(1).expand({stored, group, queries, entries});
    if (added.defined()) {
      added.masked_fill_(hidden, -std::numeric_limits<float>::infinity());
    } else {
      mask = hidden.logical_not().reshape({1, stored, group * queries, entries});
    }
  }
  if (added.defined()) mask = added.reshape({1, stored, group * queries, entries}).to(type);

  at::Tensor mixed = at::scaled_dot_product_attention(query, keys, values, mask, 0.0, false,
                                                      static_cast<double>(input.scale))
                         .view({stored, group, queries, value_dim});
  // A query that sees nothing gives zeros, whatever the library makes of it.
  if (hidden.defined()) mixed = mixed.masked_fill(hidden.all(-1, true), 0);
  output.copy_(mixed.permute({2, 0, 1, 3}).reshape({queries, heads, value_dim}));
}

}  // namespace kvlab::plugins

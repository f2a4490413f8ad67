#include "eager_attention.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <limits>

namespace kvlab::plugins {

namespace {

// Queries whose scores are held at once: bounds the score matrix for long prompts.
constexpr int64_t kQueriesAtOnce = 256;

}  // namespace

EagerAttention::EagerAttention() : Attention("eager") { traits_.supports_bias = true; }

void EagerAttention::forward(const AttentionInput& input) {
  int64_t index = 0;
  for (const RowSlice& slice : input.plan.slices()) {
    const int64_t current = index++;
    if (slice.count == 0) continue;  // nothing asks: gather nothing
    const DenseKV kv = input.view.dense(current, input.position, input.scratch);
    gathered_bytes_ += kv.gathered_bytes;
    for (int64_t first = 0; first < slice.count; first += kQueriesAtOnce) {
      RowSlice part = slice;
      part.first_position += first;
      part.offset += first;
      part.count = std::min(kQueriesAtOnce, slice.count - first);
      attend(input, kv, part);
    }
  }
}

// H query heads, G stored heads, R = H / G, n queries, T entries: the R * n queries that read one
// stored head are the rows of one matrix.
void EagerAttention::attend(const AttentionInput& input, const DenseKV& kv, const RowSlice& slice) {
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
  const at::Tensor query_GRnD = input.query.narrow(0, slice.offset, queries)
                                    .to(at::kFloat)
                                    .view({queries, stored, group, key_dim})
                                    .permute({1, 2, 0, 3})
                                    .reshape({stored, group * queries, key_dim});
  at::Tensor scores = at::bmm(query_GRnD, kv.keys.to(at::kFloat).transpose(1, 2));
  scores.mul_(input.scale);
  const at::Tensor bias = dense_bias(slice, kv, heads, input.position.score_slopes());
  if (bias.defined()) scores.add_(bias.view({stored, group * queries, entries}));

  const DenseMask mask = dense_mask(slice, kv, input.window, input.view);
  at::Tensor hidden;
  if (!mask.all_visible) {
    hidden = mask.hidden.unsqueeze(1);  // [G or 1, 1, n, T]
    scores.view({stored, group, queries, entries})
        .masked_fill_(hidden, -std::numeric_limits<float>::infinity());
  }
  at::Tensor probabilities = at::softmax(scores, -1);
  // A query that sees nothing has a row of NaN here; it gives zeros.
  if (hidden.defined()) {
    probabilities.view({stored, group, queries, entries}).masked_fill_(hidden, 0);
  }
  const at::Tensor mixed = at::bmm(probabilities, kv.values.to(at::kFloat));
  output.copy_(mixed.view({stored, group, queries, value_dim})
                   .permute({2, 0, 1, 3})
                   .reshape({queries, heads, value_dim}));
}

}  // namespace kvlab::plugins

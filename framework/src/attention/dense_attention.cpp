#include "kvlab/attention/dense_attention.h"

#include <ATen/core/Tensor.h>

#include <algorithm>

namespace kvlab {

void DenseAttention::forward(const AttentionInput& input) {
  int64_t index = 0;
  for (const RowSlice& slice : input.plan.slices()) {
    const int64_t current = index++;
    if (slice.count == 0) continue;  // nothing asks: gather nothing
    const DenseKV kv = input.view.dense(current, input.position, input.scratch);
    gathered_bytes_ += kv.gathered_bytes;
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

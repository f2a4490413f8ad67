// LibTorch's fused attention with an explicit mask. Its is_causal aligns queries and keys at the
// top left when their numbers differ, so it is never used.
#pragma once

#include "kvlab/attention/dense_attention.h"

namespace kvlab::plugins {

class SdpaAttention final : public DenseAttention {
 public:
  SdpaAttention();

 private:
  void attend(const AttentionInput& input, const RowSlice& slice, const DenseKV& kv,
              const Shape& shape, const at::Tensor& query, at::Tensor& output) override;
};

AttentionTraits sdpa_traits();

}  // namespace kvlab::plugins

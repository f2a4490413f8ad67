// The readable reference: plain tensor operations over dense keys and values, in fp32.
#pragma once

#include "kvlab/attention/dense_attention.h"

namespace kvlab::plugins {

class EagerAttention final : public DenseAttention {
 public:
  EagerAttention();

 private:
  void attend(const AttentionInput& input, const RowSlice& slice, const DenseKV& kv,
              const Shape& shape, const at::Tensor& query, at::Tensor& output) override;
};

AttentionTraits eager_traits();

}  // namespace kvlab::plugins

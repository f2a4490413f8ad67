// @NAME@: what is special about this attention, in a sentence or two. Name the paper where there is
// one.
#pragma once

#include "kvlab/attention/dense_attention.h"

namespace kvlab::plugins {

/// Plain tensor operations in fp32, one row of the batch at a time. This is a whole attention: it
/// works before you change anything.
class @CLASS@Attention final : public DenseAttention {
 public:
  @CLASS@Attention();

 private:
  void attend(const AttentionInput& input, const RowSlice& slice, const DenseKV& kv,
              const Shape& shape, const at::Tensor& query, at::Tensor& output) override;
};

AttentionTraits @NAME@_traits();

}  // namespace kvlab::plugins

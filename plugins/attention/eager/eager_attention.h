// The readable reference: plain tensor operations over dense keys and values, in fp32.
#pragma once

#include "kvlab/attention/attention.h"

namespace kvlab::plugins {

class EagerAttention final : public Attention {
 public:
  EagerAttention();
  const AttentionTraits& traits() const override { return traits_; }
  void forward(const AttentionInput& input) override;
  int64_t gathered_bytes() const override { return gathered_bytes_; }

 private:
  void attend(const AttentionInput& input, const DenseKV& kv, const RowSlice& slice);

  AttentionTraits traits_;
  int64_t gathered_bytes_ = 0;
};

}  // namespace kvlab::plugins

// LibTorch's fused attention with an explicit mask. Its is_causal aligns queries and keys at the
// top left when their numbers differ, so it is never used.
#pragma once

#include "kvlab/attention/attention.h"

namespace kvlab::plugins {

class SdpaAttention final : public Attention {
 public:
  SdpaAttention();
  const AttentionTraits& traits() const override { return traits_; }
  void forward(const AttentionInput& input) override;
  int64_t gathered_bytes() const override { return gathered_bytes_; }

 private:
  void attend(const AttentionInput& input, const DenseKV& kv, const RowSlice& slice);

  AttentionTraits traits_;
  int64_t gathered_bytes_ = 0;
};

}  // namespace kvlab::plugins

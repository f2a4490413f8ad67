// Attention by kvlab's own kernels on segments where they lie: nothing is gathered.
#pragma once

#include <exception>
#include <mutex>
#include <vector>

#include "kvlab/attention/attention.h"
#include "kvlab/kernels/segment_attention.h"

namespace kvlab::plugins {

struct FusedOptions {
  /// The query heads of a group share one pass over K and V. False measures what that is worth.
  bool share_loads = true;
};

class FusedAttention final : public Attention {
 public:
  explicit FusedAttention(const FusedOptions& options = {});

  const AttentionTraits& traits() const override { return traits_; }
  void forward(const AttentionInput& input) override;

  /// Bytes that the buffers between calls hold.
  int64_t buffer_bytes() const { return kernel_.bytes(); }

 private:
  struct Rotation;

  void read_view(const AttentionInput& input);
  void give_feedback(const AttentionInput& input, const kernels::SegmentAttentionTask& task);

  FusedOptions options_;
  AttentionTraits traits_;
  kernels::SegmentAttention kernel_;
  std::vector<kernels::EntryRun> runs_;
  std::vector<kernels::QueryRow> rows_;
  std::vector<float*> columns_;
};

AttentionTraits fused_traits();

}  // namespace kvlab::plugins

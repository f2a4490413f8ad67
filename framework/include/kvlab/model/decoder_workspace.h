// The buffers of a decoder's steps, planned once so that a decode step allocates nothing.
#pragma once

#include <cstdint>
#include <memory>

namespace kvlab {

class StepTimeline;

/// Where the time of steps went, in nanoseconds.
struct StepProfile {
  int64_t steps = 0;
  int64_t linear_ns = 0;     ///< products with weights, the head's included
  int64_t attention_ns = 0;
  int64_t cache_ns = 0;      ///< begin_step, append, view, end_step
  int64_t other_ns = 0;      ///< norms, positions, embedding, checks
  StepTimeline* timeline = nullptr;  ///< where set, gets every part with its layer and times

  int64_t total_ns() const { return linear_ns + attention_ns + cache_ns + other_ns; }
};

struct DecoderBuffers;

/// Buffers that grow to the largest step seen and are then reused. Belongs to one session: used by one
/// thread, for one decoder.
class DecoderWorkspace {
 public:
  DecoderWorkspace();
  ~DecoderWorkspace();
  DecoderWorkspace(const DecoderWorkspace&) = delete;
  DecoderWorkspace& operator=(const DecoderWorkspace&) = delete;

  /// Bytes of the planned buffers: not what a long prompt takes layer by layer.
  int64_t bytes() const;

 private:
  friend class Decoder;
  std::unique_ptr<DecoderBuffers> buffers_;
};

}  // namespace kvlab

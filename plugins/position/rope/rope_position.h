// Rotary positions (Su et al., 2021, arXiv:2104.09864) in the rotate-half order of Hugging Face:
// element i of a head is paired with element i + D/2.
#pragma once

#include <vector>

#include "kvlab/position/position_encoding.h"

namespace kvlab::plugins {

class RopePosition final : public PositionEncoding {
 public:
  /// Requires: an even head dimension.
  RopePosition(double theta, const PositionShape& shape);
  const PositionTraits& traits() const override { return traits_; }
  void rotate(at::Tensor& heads, const at::Tensor& positions) const override;

 private:
  PositionTraits traits_;
  int64_t head_dim_;
  std::vector<float> inverse_frequencies_;  // [D/2]
};

}  // namespace kvlab::plugins

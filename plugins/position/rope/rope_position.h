// Rotary positions (Su et al., 2021, arXiv:2104.09864) in the rotate-half order of Hugging Face:
// element i of a head is paired with element i + D/2.
#pragma once

#include <vector>

#include "kvlab/position/position_encoding.h"

namespace kvlab::plugins {

class RopePosition final : public PositionEncoding {
 public:
  /// Positions below this are looked up in a table, made once: 2 MiB for a head dimension of 64.
  static constexpr int64_t kMostTabled = 8192;

  /// Requires: an even head dimension.
  RopePosition(double theta, const PositionShape& shape);
  const PositionTraits& traits() const override { return traits_; }

  /// Never allocates.
  void rotate(at::Tensor& heads, const at::Tensor& positions) const override;

 private:
  template <typename Scalar>
  void rotate_tokens(Scalar* data, const at::Tensor& heads, const int64_t* positions) const;

  PositionTraits traits_;
  int64_t head_dim_;
  int64_t tabled_;                          // positions in the table
  std::vector<float> inverse_frequencies_;  // [D/2]
  std::vector<float> table_;                // [tabled, 2, D/2]: cosines, then sines
};

/// Throws UserError for an odd head dimension.
PositionTraits rope_traits(const PositionShape& shape);

}  // namespace kvlab::plugins

// A linear penalty on distance, added to scores (Press et al., 2022, arXiv:2108.12409).
#pragma once

#include <vector>

#include "kvlab/position/position_encoding.h"

namespace kvlab::plugins {

class AlibiPosition final : public PositionEncoding {
 public:
  explicit AlibiPosition(const PositionShape& shape);
  const PositionTraits& traits() const override { return traits_; }
  std::span<const float> score_slopes() const override { return slopes_; }

 private:
  PositionTraits traits_;
  std::vector<float> slopes_;  // [H]
};

/// Slopes for `heads` heads: 2^(-8h/H) for a power of two. Otherwise those of the largest power of
/// two below, then every second slope of twice that power, as in the authors' code
/// (github.com/ofirpress/attention_with_linear_biases, get_slopes).
std::vector<float> alibi_slopes(int64_t heads);

}  // namespace kvlab::plugins

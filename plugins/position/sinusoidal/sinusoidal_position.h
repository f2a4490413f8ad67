// Fixed sines and cosines added to the embedding (Vaswani et al., 2017, arXiv:1706.03762, 3.5):
// PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos(p / 10000^(2i/d)).
#pragma once

#include <vector>

#include "kvlab/position/position_encoding.h"

namespace kvlab::plugins {

class SinusoidalPosition final : public PositionEncoding {
 public:
  explicit SinusoidalPosition(const PositionShape& shape);
  const PositionTraits& traits() const override { return traits_; }
  void add_to_embedding(at::Tensor& embedding, const at::Tensor& positions) const override;

 private:
  PositionTraits traits_;
  std::vector<double> divisors_;  // [d]: 10000^(2i/d), of the sine and of the cosine
};

}  // namespace kvlab::plugins

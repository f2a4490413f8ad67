#include "sinusoidal_position.h"

#include <ATen/ops/empty.h>

#include <cmath>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

SinusoidalPosition::SinusoidalPosition(const PositionShape& shape)
    : PositionEncoding("sinusoidal"), d_model_(shape.d_model) {
  traits_.adds_to_embedding = true;
}

void SinusoidalPosition::add_to_embedding(at::Tensor& embedding,
                                          const at::Tensor& positions) const {
  KVLAB_CHECK_EQ(positions.size(0), embedding.size(0),
                 "[position.sinusoidal] positions for the embedding's tokens");
  check_positions(positions);
  const int64_t tokens = positions.size(0);
  const int64_t* position = positions.const_data_ptr<int64_t>();
  at::Tensor waves = at::empty({tokens, d_model_}, at::kFloat);
  float* out = waves.mutable_data_ptr<float>();
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t i = 0; i < d_model_; ++i) {
      const double exponent = static_cast<double>(i - i % 2) / static_cast<double>(d_model_);
      const double angle = static_cast<double>(position[token]) / std::pow(10000.0, exponent);
      *out++ = static_cast<float>(i % 2 == 0 ? std::sin(angle) : std::cos(angle));
    }
  }
  embedding.add_(waves.to(embedding.scalar_type()));
}

}  // namespace kvlab::plugins

#include "sinusoidal_position.h"

#include <ATen/ops/empty.h>

#include <cmath>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

SinusoidalPosition::SinusoidalPosition(const PositionShape& shape)
    : PositionEncoding("sinusoidal") {
  traits_.adds_to_embedding = true;
  for (int64_t i = 0; i < shape.d_model; ++i) {
    const double exponent = static_cast<double>(i - i % 2) / static_cast<double>(shape.d_model);
    divisors_.push_back(std::pow(10000.0, exponent));
  }
}

void SinusoidalPosition::add_to_embedding(at::Tensor& embedding,
                                          const at::Tensor& positions) const {
  KVLAB_CHECK_EQ(positions.size(0), embedding.size(0),
                 "[position.sinusoidal] positions for the embedding's tokens");
  KVLAB_CHECK(embedding.dim() == 2 && embedding.size(1) == static_cast<int64_t>(divisors_.size()),
              "[position.sinusoidal] expected an embedding [", positions.size(0), ",",
              static_cast<int64_t>(divisors_.size()), "], got ", embedding.sizes());
  check_positions(positions);
  const int64_t* position = positions.const_data_ptr<int64_t>();
  at::Tensor waves = at::empty({static_cast<int64_t>(divisors_.size())}, at::kFloat);
  float* out = waves.mutable_data_ptr<float>();
  for (int64_t token = 0; token < positions.size(0); ++token) {
    for (size_t i = 0; i < divisors_.size(); ++i) {
      const double angle = static_cast<double>(position[token]) / divisors_[i];
      out[i] = static_cast<float>(i % 2 == 0 ? std::sin(angle) : std::cos(angle));
    }
    embedding.select(0, token).add_(waves.to(embedding.scalar_type()));
  }
}

}  // namespace kvlab::plugins

#include "sinusoidal_position.h"

#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace kvlab::plugins {
namespace {

// PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos(p / 10000^(2i/d)).
TEST(SinusoidalPosition, FollowsThePublishedFormula) {
  for (const int64_t width : {6, 7, 64}) {
    PositionShape shape;
    shape.d_model = width;
    const SinusoidalPosition position(shape);
    const std::vector<int64_t> tested = {0, 1, 2, 17, 1023};
    at::Tensor positions = at::zeros({5}, at::kLong);
    for (size_t i = 0; i < tested.size(); ++i) {
      positions.mutable_data_ptr<int64_t>()[i] = tested[i];
    }
    at::Tensor embedding = at::zeros({5, width}, at::kFloat);
    position.add_to_embedding(embedding, positions);
    for (size_t t = 0; t < tested.size(); ++t) {
      for (int64_t pair = 0; 2 * pair < width; ++pair) {
        const double angle = static_cast<double>(tested[t]) *
                             std::exp(-std::log(10000.0) * static_cast<double>(2 * pair) /
                                      static_cast<double>(width));
        const float* row = embedding.const_data_ptr<float>() + static_cast<int64_t>(t) * width;
        EXPECT_NEAR(row[2 * pair], std::sin(angle), 1e-6);
        if (2 * pair + 1 < width) {
          EXPECT_NEAR(row[2 * pair + 1], std::cos(angle), 1e-6);
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvlab::plugins

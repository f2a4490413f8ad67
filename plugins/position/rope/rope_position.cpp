#include "rope_position.h"

#include <cmath>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

namespace {

// Rotates [N,heads,D] in place. Angles are computed once per token, in fp32 as the reference
// implementations do.
template <typename Scalar>
void rotate_heads(Scalar* data, int64_t token_stride, int64_t head_stride, int64_t tokens,
                  int64_t heads, const int64_t* positions, const std::vector<float>& frequencies) {
  const auto half = static_cast<int64_t>(frequencies.size());
  std::vector<float> cosines(frequencies.size()), sines(frequencies.size());
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle =
          static_cast<float>(positions[token]) * frequencies[static_cast<size_t>(i)];
      cosines[static_cast<size_t>(i)] = std::cos(angle);
      sines[static_cast<size_t>(i)] = std::sin(angle);
    }
    for (int64_t head = 0; head < heads; ++head) {
      Scalar* low = data + token * token_stride + head * head_stride;
      Scalar* high = low + half;
      for (int64_t i = 0; i < half; ++i) {
        const auto a = static_cast<float>(low[i]);
        const auto b = static_cast<float>(high[i]);
        const float cosine = cosines[static_cast<size_t>(i)];
        const float sine = sines[static_cast<size_t>(i)];
        low[i] = static_cast<Scalar>(a * cosine - b * sine);
        high[i] = static_cast<Scalar>(b * cosine + a * sine);
      }
    }
  }
}

}  // namespace

RopePosition::RopePosition(double theta, const PositionShape& shape)
    : PositionEncoding("rope"), head_dim_(shape.head_dim) {
  KVLAB_CHECK(head_dim_ % 2 == 0, "[position.rope] the head dimension must be even, got ",
              head_dim_);
  traits_.rotates = true;
  traits_.can_rebase = true;
  for (int64_t i = 0; i < head_dim_ / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim_);
    inverse_frequencies_.push_back(1.0F / std::pow(static_cast<float>(theta), exponent));
  }
}

void RopePosition::rotate(at::Tensor& heads, const at::Tensor& positions) const {
  check_positions(positions);
  KVLAB_CHECK(heads.dim() == 3 && heads.size(2) == head_dim_ && heads.stride(2) == 1 &&
                  heads.size(0) == positions.size(0),
              "[position.rope.rotate] expected [", positions.size(0), ",heads,", head_dim_,
              "] with contiguous head dimension, got ", heads.sizes());
  const auto apply = [&](auto* data) {
    rotate_heads(data, heads.stride(0), heads.stride(1), heads.size(0), heads.size(1),
                 positions.const_data_ptr<int64_t>(), inverse_frequencies_);
  };
  if (heads.scalar_type() == at::kFloat) {
    apply(heads.mutable_data_ptr<float>());
  } else {
    apply(heads.mutable_data_ptr<at::BFloat16>());
  }
}

}  // namespace kvlab::plugins

#include "rope_position.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

namespace {

// In fp32, as the reference implementations do.
void angles(int64_t position, const float* frequencies, int64_t count, float* cosines,
            float* sines) {
  for (int64_t i = 0; i < count; ++i) {
    const float angle = static_cast<float>(position) * frequencies[i];
    cosines[i] = std::cos(angle);
    sines[i] = std::sin(angle);
  }
}

// Turns `count` pairs of one head, whose elements lie at `low` and `high`.
template <typename Scalar>
void turn(Scalar* __restrict low, Scalar* __restrict high, const float* __restrict cosines,
          const float* __restrict sines, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const auto a = static_cast<float>(low[i]);
    const auto b = static_cast<float>(high[i]);
    low[i] = static_cast<Scalar>(a * cosines[i] - b * sines[i]);
    high[i] = static_cast<Scalar>(b * cosines[i] + a * sines[i]);
  }
}

}  // namespace

PositionTraits rope_traits(const PositionShape& shape) {
  KVLAB_CHECK(shape.head_dim % 2 == 0, "[position.rope] the head dimension must be even, got ",
              shape.head_dim);
  PositionTraits traits;
  traits.rotates = true;
  traits.can_rebase = true;
  return traits;
}

RopePosition::RopePosition(double theta, const PositionShape& shape)
    : PositionEncoding("rope"),
      traits_(rope_traits(shape)),
      head_dim_(shape.head_dim),
      tabled_(std::clamp<int64_t>(shape.context, 0, kMostTabled)) {
  const int64_t half = head_dim_ / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim_);
    inverse_frequencies_.push_back(1.0F / std::pow(static_cast<float>(theta), exponent));
  }
  table_.resize(static_cast<size_t>(tabled_ * head_dim_));
  for (int64_t position = 0; position < tabled_; ++position) {
    float* cosines = table_.data() + position * head_dim_;
    angles(position, inverse_frequencies_.data(), half, cosines, cosines + half);
  }
}

template <typename Scalar>
void RopePosition::rotate_tokens(Scalar* data, const at::Tensor& heads,
                                 const int64_t* positions) const {
  constexpr int64_t kPart = 64;  // pairs whose angles are computed at once, where there is no table
  const int64_t half = head_dim_ / 2;
  const int64_t token_stride = heads.stride(0), head_stride = heads.stride(1);
  for (int64_t token = 0; token < heads.size(0); ++token) {
    const int64_t position = positions[token];
    const bool tabled = position >= 0 && position < tabled_;
    const int64_t part = tabled ? half : kPart;
    for (int64_t first = 0; first < half; first += part) {
      const int64_t count = std::min(part, half - first);
      std::array<float, kPart> own_cosines, own_sines;
      const float* cosines = own_cosines.data();
      const float* sines = own_sines.data();
      if (tabled) {
        cosines = table_.data() + position * head_dim_;
        sines = cosines + half;
      } else {
        angles(position, inverse_frequencies_.data() + first, count, own_cosines.data(),
               own_sines.data());
      }
      for (int64_t head = 0; head < heads.size(1); ++head) {
        Scalar* low = data + token * token_stride + head * head_stride + first;
        turn(low, low + half, cosines, sines, count);
      }
    }
  }
}

void RopePosition::rotate(at::Tensor& heads, const at::Tensor& positions) const {
  check_positions(positions);
  KVLAB_CHECK(heads.dim() == 3 && heads.size(2) == head_dim_ && heads.stride(2) == 1 &&
                  heads.size(0) == positions.size(0),
              "[position.rope.rotate] expected [", positions.size(0), ",heads,", head_dim_,
              "] with contiguous head dimension, got ", heads.sizes());
  const int64_t* from = positions.const_data_ptr<int64_t>();
  if (heads.scalar_type() == at::kFloat) {
    rotate_tokens(heads.mutable_data_ptr<float>(), heads, from);
  } else {
    rotate_tokens(heads.mutable_data_ptr<at::BFloat16>(), heads, from);
  }
}

}  // namespace kvlab::plugins

#include "int8_codec.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace kvlab::plugins {

namespace {

constexpr int32_t kMagnitude = 0x7fffffff;  // all but the sign
constexpr int32_t kInfinity = 0x7f800000;   // as bits; beyond it lie the NaNs

// 1.5 * 2^23: the sum with a small number is rounded to an integer, which its low bits then hold.
constexpr float kRounder = 12582912.0F;

template <typename Number>
float encode(const Number* numbers, int64_t dim, int8_t* codes) {
  // Bits of magnitudes are ordered as the magnitudes are, and NaN is above all: one maximum of
  // integers finds the scale and what has none.
  int32_t largest = 0;
  for (int64_t d = 0; d < dim; ++d) {
    largest =
        std::max(largest, std::bit_cast<int32_t>(static_cast<float>(numbers[d])) & kMagnitude);
  }
  if (largest == 0 || largest >= kInfinity) {
    std::fill(codes, codes + dim, int8_t{0});
    return largest == 0 ? 0.0F : std::numeric_limits<float>::quiet_NaN();
  }
  const float scale =
      std::max(std::bit_cast<float>(largest) / 127.0F, std::numeric_limits<float>::min());
  const float inverse = 1.0F / scale;
  for (int64_t d = 0; d < dim; ++d) {
    const float rounded = static_cast<float>(numbers[d]) * inverse + kRounder;
    codes[d] = static_cast<int8_t>(std::bit_cast<int32_t>(rounded));
  }
  return scale;
}

}  // namespace

float encode_int8(const float* numbers, int64_t dim, int8_t* codes) {
  return encode(numbers, dim, codes);
}

float encode_int8(const c10::BFloat16* numbers, int64_t dim, int8_t* codes) {
  return encode(numbers, dim, codes);
}

}  // namespace kvlab::plugins

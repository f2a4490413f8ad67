#include "int8_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace kvlab::plugins {
namespace {

struct Coded {
  float scale = 0;
  std::vector<int8_t> codes;
};

template <typename Number>
Coded encoded(const std::vector<Number>& numbers) {
  Coded made;
  made.codes.assign(numbers.size(), 99);
  made.scale = encode_int8(numbers.data(), static_cast<int64_t>(numbers.size()), made.codes.data());
  return made;
}

// Rounding of the quotient, in codes: 127 * 2^-22.
constexpr double kSlack = 1e-4;

TEST(Int8Codec, IsOffByAtMostHalfAScaleAtAnyMagnitude) {
  std::mt19937 random(20);
  std::normal_distribution<float> normal;
  for (const int64_t dim : {1, 2, 5, 15, 16, 33, 64, 80, 128}) {
    for (int exponent = -149; exponent <= 120; ++exponent) {
      std::vector<float> numbers(static_cast<size_t>(dim));
      for (float& number : numbers) number = std::ldexp(normal(random), exponent);
      const Coded coded = encoded(numbers);
      float largest = 0;
      for (const float number : numbers) largest = std::max(largest, std::abs(number));
      ASSERT_GE(coded.scale, largest / 127 * 0.999999F) << "dim " << dim << ", 2^" << exponent;
      for (size_t i = 0; i < numbers.size(); ++i) {
        const double decoded = static_cast<double>(coded.codes[i]) * coded.scale;
        ASSERT_LE(std::abs(decoded - numbers[i]), (0.5 + kSlack) * coded.scale)
            << "dim " << dim << ", 2^" << exponent << ", seed 20";
      }
    }
  }
}

TEST(Int8Codec, GivesTheLargestMagnitudeTheLastCode) {
  const Coded coded = encoded<float>({0.5F, -254, 127, 2, -1, 0});
  EXPECT_EQ(coded.scale, 2);
  // Halves go to the even code.
  EXPECT_EQ(coded.codes, (std::vector<int8_t>{0, -127, 64, 1, 0, 0}));
}

TEST(Int8Codec, GivesZerosScaleZero) {
  const Coded coded = encoded<float>({0, -0.0F, 0});
  EXPECT_EQ(coded.scale, 0);
  EXPECT_EQ(coded.codes, (std::vector<int8_t>{0, 0, 0}));
}

TEST(Int8Codec, GivesTheEndsOfTheRangeAFiniteScale) {
  const float largest = std::numeric_limits<float>::max();
  const Coded wide = encoded<float>({largest, -largest, largest / 4, 1});
  EXPECT_TRUE(std::isfinite(wide.scale));
  EXPECT_EQ(wide.codes, (std::vector<int8_t>{127, -127, 32, 0}));
  const Coded narrow = encoded<float>({std::numeric_limits<float>::denorm_min(), 0});
  EXPECT_EQ(narrow.scale, std::numeric_limits<float>::min());
  EXPECT_EQ(narrow.codes, (std::vector<int8_t>{0, 0}));
}

TEST(Int8Codec, TurnsANaNOrAnInfinityIntoAScaleOfNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float odd : {nan, -nan, infinity, -infinity}) {
    for (size_t at : {0U, 3U, 8U}) {
      std::vector<float> numbers(9, 1.5F);
      numbers[at] = odd;
      const Coded coded = encoded(numbers);
      EXPECT_TRUE(std::isnan(coded.scale)) << odd << " at " << at;
      EXPECT_EQ(coded.codes, std::vector<int8_t>(9, 0));
    }
  }
}

TEST(Int8Codec, CodesBf16AsTheSameNumbersInF32) {
  std::mt19937 random(21);
  std::normal_distribution<float> normal;
  std::vector<c10::BFloat16> half;
  std::vector<float> single;
  for (int i = 0; i < 67; ++i) {
    half.emplace_back(normal(random));
    single.push_back(static_cast<float>(half.back()));
  }
  const Coded from_half = encoded(half), from_single = encoded(single);
  EXPECT_EQ(from_half.scale, from_single.scale);
  EXPECT_EQ(from_half.codes, from_single.codes);
}

}  // namespace
}  // namespace kvlab::plugins

// Between fp32 weights and the formats of a matrix.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kvlab/core/error.h"
#include "kvlab/kernels/elementwise.h"
#include "kvlab/kernels/linear.h"

namespace kvlab::kernels {

namespace {

constexpr float kMostCodes = 127;
constexpr int64_t kRowsPerItem = 64;
// Scales are never subnormal: where the processor takes those for zero, codes would be divided by
// it.
constexpr uint16_t kSmallestNormal = 0x0080;
// 1.5 * 2^23: adding and subtracting it rounds a small number to the nearest integer, ties to even.
constexpr float kRounding = 12582912.0F;

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float scale_of(uint16_t bits) { return from_bits(static_cast<uint32_t>(bits) << 16); }

// The smallest bf16 number that is not below `value`, which is finite and not negative.
uint16_t bf16_upwards(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + 0xFFFFU) >> 16);
}

uint16_t quantise_group(const float* weights, int64_t count, int8_t* codes) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(weights[i]));
  if (largest == 0) {
    std::fill(codes, codes + count, int8_t{0});
    return 0;
  }
  uint16_t bits = std::max(kSmallestNormal, bf16_upwards(largest / kMostCodes));
  // The division rounds: 127 times the scale may still fall short of the largest.
  if (scale_of(bits) * kMostCodes < largest) ++bits;
  const float scale = scale_of(bits);
  for (int64_t i = 0; i < count; ++i) {
    codes[i] = static_cast<int8_t>((weights[i] / scale + kRounding) - kRounding);
  }
  return bits;
}

void decode_row(const Matrix& weight, int64_t row, float* to) {
  const int64_t columns = weight.columns;
  const int64_t start = row * columns;
  switch (weight.format) {
    case WeightFormat::f32:
      std::copy_n(static_cast<const float*>(weight.codes) + start, columns, to);
      return;
    case WeightFormat::bf16:
      from_bf16(static_cast<const uint16_t*>(weight.codes) + start, to, columns);
      return;
    case WeightFormat::int8: break;
  }
  const auto* codes = static_cast<const int8_t*>(weight.codes) + start;
  const uint16_t* scales = weight.scales + row * weight.groups();
  for (int64_t group = 0; group < weight.groups(); ++group) {
    const float scale = scale_of(scales[group]);
    const int64_t first = group * kScaleGroup;
    const int64_t last = std::min(columns, first + kScaleGroup);
    for (int64_t i = first; i < last; ++i) to[i] = static_cast<float>(codes[i]) * scale;
  }
}

}  // namespace

void quantise(const float* weights, int64_t rows, int64_t columns, int8_t* codes,
              uint16_t* scales) {
  const int64_t groups = (columns + kScaleGroup - 1) / kScaleGroup;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first = group * kScaleGroup;
      const int64_t count = std::min(kScaleGroup, columns - first);
      const int64_t at = row * columns + first;
      scales[row * groups + group] = quantise_group(weights + at, count, codes + at);
    }
  }
}

void decode_rows(const Matrix& weight, int64_t first, int64_t count, float* to,
                 ThreadPool& threads) {
  KVLAB_CHECK(first >= 0 && count >= 0 && count <= weight.rows - first,
              "[kernels.decode_rows] rows [", first, ", ", first + count, ") of a matrix with ",
              weight.rows);
  threads.for_each((count + kRowsPerItem - 1) / kRowsPerItem, [&](int64_t item, int) {
    const int64_t last = std::min(count, (item + 1) * kRowsPerItem);
    for (int64_t row = item * kRowsPerItem; row < last; ++row) {
      decode_row(weight, first + row, to + row * weight.columns);
    }
  });
}

}  // namespace kvlab::kernels

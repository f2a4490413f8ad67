#include "kvlab/kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kvlab/core/error.h"
#include "target_choice.h"

// Compiled once per instruction set: foreach_target.h includes this file again for each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "../src/kernels/elementwise.cpp"
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include "elementwise_activation-inl.h"
#include "elementwise_partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvlab::kernels::HWY_NAMESPACE {

// Sums of a row run in four vectors side by side, joined at the end: the same for every row.
constexpr int64_t kSums = 4;

HWY_INLINE float join(const Vector (&sums)[kSums]) {
  return hn::GetLane(
      hn::SumOfLanes(kFloats, hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3]))));
}

float sum(const float* x, int64_t width) {
  Vector sums[kSums] = {hn::Zero(kFloats), hn::Zero(kFloats), hn::Zero(kFloats), hn::Zero(kFloats)};
  int64_t i = 0;
  for (; i + kSums * kLanes <= width; i += kSums * kLanes) {
    for (int64_t k = 0; k < kSums; ++k) {
      sums[k] = hn::Add(sums[k], hn::LoadU(kFloats, x + i + k * kLanes));
    }
  }
  for (; i < width; i += kLanes) sums[0] = hn::Add(sums[0], load_some(x + i, width - i));
  return join(sums);
}

// Sum of (x - centre)^2.
float sum_of_squares(const float* x, float centre, int64_t width) {
  Vector sums[kSums] = {hn::Zero(kFloats), hn::Zero(kFloats), hn::Zero(kFloats), hn::Zero(kFloats)};
  const Vector middle = hn::Set(kFloats, centre);
  int64_t i = 0;
  for (; i + kSums * kLanes <= width; i += kSums * kLanes) {
    for (int64_t k = 0; k < kSums; ++k) {
      const Vector part = hn::Sub(hn::LoadU(kFloats, x + i + k * kLanes), middle);
      sums[k] = hn::MulAdd(part, part, sums[k]);
    }
  }
  for (; i < width; i += kLanes) {
    // Lanes behind the end hold the centre, so that they add nothing.
    const Vector part = hn::Sub(load_some(x + i, width - i, centre), middle);
    sums[0] = hn::MulAdd(part, part, sums[0]);
  }
  return join(sums);
}

void rms_norm_row(const float* x, const float* weight, double epsilon, int64_t width, float* y) {
  const double mean = static_cast<double>(sum_of_squares(x, 0, width)) / static_cast<double>(width);
  const Vector factor = hn::Set(kFloats, static_cast<float>(1 / std::sqrt(mean + epsilon)));
  for (int64_t i = 0; i < width; i += kLanes) {
    const Vector scaled = hn::Mul(load_some(x + i, width - i), factor);
    store_some(hn::Mul(scaled, load_some(weight + i, width - i)), y + i, width - i);
  }
}

void layer_norm_row(const float* x, const float* weight, const float* bias, double epsilon,
                    int64_t width, float* y) {
  const float mean = sum(x, width) / static_cast<float>(width);
  const double variance =
      static_cast<double>(sum_of_squares(x, mean, width)) / static_cast<double>(width);
  const Vector centre = hn::Set(kFloats, mean);
  const Vector factor = hn::Set(kFloats, static_cast<float>(1 / std::sqrt(variance + epsilon)));
  for (int64_t i = 0; i < width; i += kLanes) {
    const int64_t some = width - i;
    const Vector scaled = hn::Mul(hn::Sub(load_some(x + i, some), centre), factor);
    const Vector added = bias == nullptr ? hn::Zero(kFloats) : load_some(bias + i, some);
    store_some(hn::MulAdd(scaled, load_some(weight + i, some), added), y + i, some);
  }
}

HWY_INLINE Vector activate_vector(Epilogue activation, Vector x) {
  switch (activation) {
    case Epilogue::gelu_tanh: return gelu_tanh(kFloats, x);
    case Epilogue::gelu_erf: return gelu_erf(kFloats, x);
    default: return silu(kFloats, x);
  }
}

void activate_row(Epilogue activation, const float* x, int64_t width, float* y) {
  for (int64_t i = 0; i < width; i += kLanes) {
    const int64_t some = width - i;
    Vector result = activate_vector(activation, load_some(x + i, some));
    if (activation == Epilogue::swiglu) result = hn::Mul(result, load_some(x + width + i, some));
    store_some(result, y + i, some);
  }
}

void add_values(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t some = count - i;
    store_some(hn::Add(load_some(y + i, some), load_some(x + i, some)), y + i, some);
  }
}

using Words = hn::RebindToUnsigned<Floats>;
constexpr Words kWords;

// Bits of the nearest fp32 number whose lower half is zero, ties to even; a NaN becomes a quiet
// one.
HWY_INLINE hn::Vec<Words> rounded_bits(Vector x) {
  const auto bits = hn::BitCast(kWords, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(kWords, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(kWords, 0x7FFF)));
  const auto quiet = hn::Or(bits, hn::Set(kWords, 0x00400000));
  const auto is_nan = hn::RebindMask(kWords, hn::IsNaN(x));
  return hn::And(hn::IfThenElse(is_nan, quiet, rounded), hn::Set(kWords, 0xFFFF0000));
}

void round_values(float* values, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vector rounded = hn::BitCast(kFloats, rounded_bits(load_some(values + i, count - i)));
    store_some(rounded, values + i, count - i);
  }
}

void narrow_values(const float* from, uint16_t* to, int64_t count) {
  const hn::Rebind<uint16_t, Floats> halves;
  const hn::RebindToSigned<Floats> integers;
  for (int64_t i = 0; i < count; i += kLanes) {
    const auto bits = hn::ShiftRight<16>(rounded_bits(load_some(from + i, count - i)));
    const auto narrow = hn::DemoteTo(halves, hn::BitCast(integers, bits));
    if (i + kLanes <= count) {
      hn::StoreU(narrow, halves, to + i);
    } else {
      uint16_t values[kLanes];
      hn::StoreU(narrow, halves, values);
      std::copy_n(values, count - i, to + i);
    }
  }
}

void widen_values(const uint16_t* from, float* to, int64_t count) {
  const hn::Rebind<uint16_t, Floats> halves;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const auto words = hn::PromoteTo(kWords, hn::LoadU(halves, from + i));
    hn::StoreU(hn::BitCast(kFloats, hn::ShiftLeft<16>(words)), kFloats, to + i);
  }
  for (; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
    std::memcpy(to + i, &bits, sizeof bits);
  }
}

bool finite_values(const float* values, int64_t count) {
  // 0 * x is 0 for every finite x and NaN otherwise.
  Vector products = hn::Zero(kFloats);
  for (int64_t i = 0; i < count; i += kLanes) {
    products = hn::MulAdd(hn::Zero(kFloats), load_some(values + i, count - i), products);
  }
  return hn::AllTrue(kFloats, hn::Eq(products, products));
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace kvlab::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace kvlab::kernels {

HWY_EXPORT(rms_norm_row);
HWY_EXPORT(layer_norm_row);
HWY_EXPORT(activate_row);
HWY_EXPORT(add_values);
HWY_EXPORT(round_values);
HWY_EXPORT(narrow_values);
HWY_EXPORT(widen_values);
HWY_EXPORT(finite_values);

namespace {

// Floats of an item: some 10 us of work. Fewer run on the calling thread.
constexpr int64_t kFloatsPerItem = 16 << 10;

// Calls `row(n)` for every n in [0, rows), some rows per item.
template <typename Row>
void for_rows(int64_t rows, int64_t width, ThreadPool& threads, Row&& row) {
  const int64_t per_item = std::max<int64_t>(1, kFloatsPerItem / std::max<int64_t>(1, width));
  threads.for_each((rows + per_item - 1) / per_item, [&](int64_t item, int) {
    const int64_t last = std::min(rows, (item + 1) * per_item);
    for (int64_t n = item * per_item; n < last; ++n) row(n);
  });
}

}  // namespace

void rms_norm(const float* x, const float* weight, double epsilon, int64_t width, int64_t tokens,
              float* y, ThreadPool& threads) {
  for_rows(tokens, width, threads, [&](int64_t n) {
    HWY_DYNAMIC_DISPATCH(rms_norm_row)(x + n * width, weight, epsilon, width, y + n * width);
  });
}

void layer_norm(const float* x, const float* weight, const float* bias, double epsilon,
                int64_t width, int64_t tokens, float* y, ThreadPool& threads) {
  for_rows(tokens, width, threads, [&](int64_t n) {
    HWY_DYNAMIC_DISPATCH(layer_norm_row)
    (x + n * width, weight, bias, epsilon, width, y + n * width);
  });
}

void activate(Epilogue activation, const float* x, int64_t x_stride, int64_t width, int64_t tokens,
              float* y, int64_t y_stride, ThreadPool& threads) {
  KVLAB_CHECK(activation != Epilogue::store && activation != Epilogue::add,
              "[kernels.activate] store and add are no activations");
  for_rows(tokens, width, threads, [&](int64_t n) {
    HWY_DYNAMIC_DISPATCH(activate_row)(activation, x + n * x_stride, width, y + n * y_stride);
  });
}

void add(const float* x, float* y, int64_t count, ThreadPool& threads) {
  threads.for_each((count + kFloatsPerItem - 1) / kFloatsPerItem, [&](int64_t item, int) {
    const int64_t first = item * kFloatsPerItem;
    HWY_DYNAMIC_DISPATCH(add_values)(x + first, y + first, std::min(kFloatsPerItem, count - first));
  });
}

void to_bf16(const float* from, uint16_t* to, int64_t count) {
  HWY_DYNAMIC_DISPATCH(narrow_values)(from, to, count);
}

void from_bf16(const uint16_t* from, float* to, int64_t count) {
  HWY_DYNAMIC_DISPATCH(widen_values)(from, to, count);
}

void round_to_bf16(float* values, int64_t count) {
  HWY_DYNAMIC_DISPATCH(round_values)(values, count);
}

bool all_finite(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(finite_values)(values.data(), static_cast<int64_t>(values.size()));
}

}  // namespace kvlab::kernels

#endif  // HWY_ONCE

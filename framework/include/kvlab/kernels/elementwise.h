// Small operations of a decoder on fp32 rows, between its products.
#pragma once

#include <cstdint>
#include <span>

#include "kvlab/core/thread_pool.h"
#include "kvlab/kernels/linear.h"

namespace kvlab::kernels {

/// y[n] = x[n] / sqrt(mean(x[n]^2) + epsilon) * weight, rows of `width` without gaps. Sums in fp32
/// or better. x and y may be the same.
void rms_norm(const float* x, const float* weight, double epsilon, int64_t width, int64_t tokens,
              float* y, ThreadPool& threads);

/// y[n] = (x[n] - mean) / sqrt(variance + epsilon) * weight + bias; `bias` may be null. The
/// variance is that of the row (divided by width).
void layer_norm(const float* x, const float* weight, const float* bias, double epsilon,
                int64_t width, int64_t tokens, float* y, ThreadPool& threads);

/// The activation of an epilogue on its own, for products that the library made: `x` rows of
/// `width` (swiglu: of 2 * width) to `y` rows of `width`. Not for store and add.
void activate(Epilogue activation, const float* x, int64_t x_stride, int64_t width, int64_t tokens,
              float* y, int64_t y_stride, ThreadPool& threads);

/// y[i] += x[i].
void add(const float* x, float* y, int64_t count, ThreadPool& threads);

/// Rounds to the nearest bf16, ties to even; NaN stays NaN. `to` holds bf16 bits.
void to_bf16(const float* from, uint16_t* to, int64_t count);

/// Exact.
void from_bf16(const uint16_t* from, float* to, int64_t count);

/// Rounds fp32 values to bf16 precision in place.
void round_to_bf16(float* values, int64_t count);

/// Whether no value is NaN or infinite.
bool all_finite(std::span<const float> values);

}  // namespace kvlab::kernels

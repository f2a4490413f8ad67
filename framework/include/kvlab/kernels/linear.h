// Products of a weight matrix with few tokens: what a decode step spends most of its time on. They
// read every weight once at the memory's speed, whatever the number of tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "kvlab/core/thread_pool.h"

namespace kvlab::kernels {

enum class WeightFormat { f32, bf16, int8 };

/// Columns that share one scale in an int8 matrix.
inline constexpr int64_t kScaleGroup = 32;

/// A weight matrix [rows, columns] (out, in), row-major without gaps. Borrowed.
struct Matrix {
  const void* codes = nullptr;
  /// int8 only: bf16 bits, [rows, ceil(columns / 32)]; the weight is code * scale.
  const uint16_t* scales = nullptr;
  int64_t rows = 0, columns = 0;
  WeightFormat format = WeightFormat::f32;

  int64_t groups() const { return (columns + kScaleGroup - 1) / kScaleGroup; }
};

/// What happens to a product before it is stored.
enum class Epilogue {
  store,      ///< y = Wx + b
  add,        ///< y += Wx + b
  gelu_tanh,  ///< y = gelu(Wx + b), tanh form
  gelu_erf,   ///< y = gelu(Wx + b), exact form
  swiglu,     ///< rows are m gates, then m ups: y[i] = silu(gate[i]) * up[i], i < m = rows / 2
};

/// Buffers of `linear` that are kept between calls.
struct LinearScratch {
  std::vector<float> packed;  ///< x in the order in which the kernels meet it
};

/// y[n, r] = epilogue(sum over c of W[r, c] * x[n, c] + bias[r]) for n < tokens. x and y are fp32
/// rows at the given strides (in floats) and do not overlap; `bias` may be null. Weights become
/// fp32 in registers (exactly, an int8 code times its scale too) and are summed in fp32. An
/// element's bits depend on the instruction set, but neither on the number of threads nor on the
/// other tokens. Allocates only where `scratch` has to grow. Throws UserError for swiglu with an
/// odd number of rows.
void linear(const Matrix& weight, const float* bias, const float* x, int64_t x_stride,
            int64_t tokens, float* y, int64_t y_stride, Epilogue epilogue, LinearScratch& scratch,
            ThreadPool& threads);

/// Rounds `rows` x `columns` fp32 weights to int8 codes with one bf16 scale per group of 32 columns
/// (the last group may be shorter), so that the largest |weight| of a group is at most 127 codes. A
/// group of zeros has scale 0. Requires: weights are finite.
void quantise(const float* weights, int64_t rows, int64_t columns, int8_t* codes, uint16_t* scales);

/// Writes rows [first, first + count) of `weight` as fp32 to `to` [count, columns].
void decode_rows(const Matrix& weight, int64_t first, int64_t count, float* to,
                 ThreadPool& threads);

}  // namespace kvlab::kernels

// The part of `linear` that is compiled for every instruction set.
#pragma once

#include <cstdint>

#include "kvlab/kernels/linear.h"

namespace kvlab::kernels {

/// Weights that a kernel reads in one step of a row: one cache line, or a group of int8 codes.
constexpr int64_t columns_per_step(WeightFormat format) {
  return format == WeightFormat::f32 ? 16 : 32;
}

/// Columns of `x` after `pack_tokens`: whole steps.
constexpr int64_t packed_columns(WeightFormat format, int64_t columns) {
  const int64_t step = columns_per_step(format);
  return (columns + step - 1) / step * step;
}

/// Whether the kernels need `x` in another form than its own.
constexpr bool needs_packing(WeightFormat format, int64_t columns) {
  return format == WeightFormat::bf16 || columns % columns_per_step(format) != 0;
}

/// Copies x [tokens, columns] in the order in which the kernels of `format` meet it, zeros at the
/// end of each row. The order depends on the instruction set in use.
void pack_tokens(WeightFormat format, const float* x, int64_t x_stride, int64_t tokens,
                 int64_t columns, float* packed);

/// One call of `linear`, as its items see it.
struct RowProduct {
  Matrix weight;
  const float* bias = nullptr;
  const float* x = nullptr;  ///< packed where the format needs it
  int64_t x_stride = 0, tokens = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  Epilogue epilogue = Epilogue::store;
};

/// Computes y[:, first, ..., last - 1] of `product`. No element depends on the other rows of the
/// call.
void multiply_rows(const RowProduct& product, int64_t first, int64_t last);

}  // namespace kvlab::kernels

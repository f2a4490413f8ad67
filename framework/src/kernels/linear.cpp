#include "kvlab/kernels/linear.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvlab/core/error.h"
#include "linear_rows.h"

namespace kvlab::kernels {

namespace {

// An item's work in bytes of weights. Below the least the hand-over to another thread costs more
// than it saves.
constexpr int64_t kLeastItemBytes = 64 << 10;
constexpr int64_t kMostItems = 64;
// Cuts fall on whole register tiles of every instruction set.
constexpr int64_t kRowUnit = 12;

// Rows of the items: large ones first, so that a thread streams for long, then smaller ones, so
// that threads of unequal speed finish together. Where the cuts fall changes no result.
struct RowItems {
  std::array<int64_t, kMostItems + 1> ends{};
  int64_t count = 0;
};

RowItems cut_rows(int64_t rows, int64_t bytes_per_row, int64_t tokens, int threads) {
  // From some eight tokens on arithmetic takes as long as reading.
  const int64_t work = bytes_per_row * (8 + tokens) / 8;
  const int64_t least = std::max<int64_t>(kRowUnit, kLeastItemBytes / std::max<int64_t>(1, work));
  RowItems items;
  int64_t end = 0;
  while (end < rows) {
    int64_t size = std::max(least, (rows - end) / (2 * threads));
    size = (size + kRowUnit - 1) / kRowUnit * kRowUnit;
    const bool last = threads == 1 || items.count + 1 == kMostItems || rows - end < size + least;
    end = last ? rows : end + size;
    items.ends[static_cast<size_t>(++items.count)] = end;
  }
  return items;
}

int64_t bytes_per_row(const Matrix& weight) {
  switch (weight.format) {
    case WeightFormat::f32: return weight.columns * 4;
    case WeightFormat::bf16: return weight.columns * 2;
    case WeightFormat::int8: break;
  }
  return weight.columns + weight.groups() * 2;
}

constexpr uintptr_t kLineBytes = 64;

// Several tokens read x once per row: where vectors lie across two cache lines, that takes twice as
// long.
bool splits_cache_lines(const float* x, int64_t x_stride, int64_t tokens) {
  const auto address = reinterpret_cast<uintptr_t>(x);
  return tokens > 1 &&
         (address % kLineBytes != 0 || x_stride * 4 % static_cast<int64_t>(kLineBytes) != 0);
}

// `count` floats from the start of a cache line on.
float* aligned_floats(int64_t count, std::vector<float>& buffer) {
  const size_t needed = static_cast<size_t>(count) + kLineBytes / sizeof(float);
  if (buffer.size() < needed) buffer.resize(needed);
  const auto past = reinterpret_cast<uintptr_t>(buffer.data()) % kLineBytes;
  return buffer.data() + (past == 0 ? 0 : (kLineBytes - past) / sizeof(float));
}

}  // namespace

void linear(const Matrix& weight, const float* bias, const float* x, int64_t x_stride,
            int64_t tokens, float* y, int64_t y_stride, Epilogue epilogue, LinearScratch& scratch,
            ThreadPool& threads) {
  const bool paired = epilogue == Epilogue::swiglu;
  KVLAB_CHECK(!paired || weight.rows % 2 == 0,
              "[kernels.linear] swiglu wants as many gates as ups: got ", weight.rows,
              " rows of weights");
  RowProduct product{weight, bias, x, x_stride, tokens, y, y_stride, epilogue};
  if (needs_packing(weight.format, weight.columns) || splits_cache_lines(x, x_stride, tokens)) {
    const int64_t width = packed_columns(weight.format, weight.columns);
    float* packed = aligned_floats(tokens * width, scratch.packed);
    pack_tokens(weight.format, x, x_stride, tokens, weight.columns, packed);
    product.x = packed;
    product.x_stride = width;
  }
  const int64_t rows = paired ? weight.rows / 2 : weight.rows;
  const int64_t bytes = bytes_per_row(weight) * (paired ? 2 : 1);
  const RowItems items = cut_rows(rows, bytes, tokens, threads.threads());
  threads.for_each(items.count, [&](int64_t item, int) {
    multiply_rows(product, items.ends[static_cast<size_t>(item)],
                  items.ends[static_cast<size_t>(item + 1)]);
  });
}

}  // namespace kvlab::kernels

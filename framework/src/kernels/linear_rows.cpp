#include "linear_rows.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include "target_choice.h"

// Compiled once per instruction set: foreach_target.h includes this file again for each.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "../src/kernels/linear_rows.cpp"
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "elementwise_activation-inl.h"
#include "elementwise_partial-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvlab::kernels::HWY_NAMESPACE {

// Rows are finished in blocks: small enough for their weights to stay in the second-level cache
// while one tile of tokens after the other is multiplied.
constexpr int64_t kBlockRows = 48;
constexpr int64_t kBlockStride = 64;  // a tile may write three values behind its rows
constexpr int64_t kBlockTokens = 16;
using Block = std::array<float, static_cast<size_t>(kBlockStride* kBlockTokens)>;

// Rows are short streams: the processor's own prefetching starts anew with each. What a row or a tile
// of rows needs is asked for so many bytes before, some 100 ns at the memory's speed; a miss costs as
// much.
constexpr int64_t kStreamAhead = 4096, kTilesAhead = 8192;

// What one step of a row decodes to: kStep / kLanes vectors of fp32 weights. `scale` is the int8
// group's.
struct F32 {
  using Code = float;
  static constexpr WeightFormat kFormat = WeightFormat::f32;
  static HWY_INLINE Vector scale(const uint16_t*, int64_t) { return hn::Zero(kFloats); }
  static HWY_INLINE Vector decode(const Code* step, int64_t index, Vector) {
    return hn::LoadU(kFloats, step + index * kLanes);
  }
};

// A bf16 number is the upper half of an fp32 number. Vectors of 32-bit lanes hold a pair of columns
// per lane; the even columns are shifted up, the odd ones masked. `pack_tokens` orders x the same.
struct Bf16 {
  using Code = uint16_t;
  static constexpr WeightFormat kFormat = WeightFormat::bf16;
  static HWY_INLINE Vector scale(const uint16_t*, int64_t) { return hn::Zero(kFloats); }
  static HWY_INLINE Vector decode(const Code* step, int64_t index, Vector) {
    const hn::RebindToUnsigned<Floats> words;
#if HWY_TARGET == HWY_SCALAR
    return hn::BitCast(kFloats, hn::Set(words, static_cast<uint32_t>(step[index]) << 16));
#else
    const hn::Repartition<uint16_t, Floats> halves;
    const auto pairs = hn::BitCast(words, hn::LoadU(halves, step + index / 2 * 2 * kLanes));
    return hn::BitCast(kFloats, index % 2 == 0 ? hn::ShiftLeft<16>(pairs)
                                               : hn::And(pairs, hn::Set(words, 0xFFFF0000U)));
#endif
  }
};

struct Int8 {
  using Code = int8_t;
  static constexpr WeightFormat kFormat = WeightFormat::int8;
  static HWY_INLINE Vector scale(const uint16_t* scales, int64_t group) {
    const hn::RebindToUnsigned<Floats> words;
    return hn::BitCast(kFloats, hn::Set(words, static_cast<uint32_t>(scales[group]) << 16));
  }
  static HWY_INLINE Vector decode(const Code* step, int64_t index, Vector scale) {
    const hn::Rebind<int8_t, Floats> bytes;
    const hn::RebindToSigned<Floats> words;
    const auto codes = hn::PromoteTo(words, hn::LoadU(bytes, step + index * kLanes));
    return hn::Mul(hn::ConvertTo(kFloats, codes), scale);
  }
};

// Tokens that are multiplied at once, and rows beside them: rows * tokens sums, the rows' weights
// and one vector of x have to fit into the registers.
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr int64_t kMostTokens = 8;  // 32 registers
constexpr int64_t rows_per_tile(int64_t tokens) { return tokens <= 4 ? 4 : 3; }
#else
constexpr int64_t kMostTokens = 4;  // 16 registers
constexpr int64_t rows_per_tile(int64_t tokens) { return tokens <= 2 ? 4 : 2; }
#endif

// Tells the compiler that `vector` is in a register: GCC would rather load a value of x again for
// every row, and the loads then take longer than the sums.
HWY_INLINE void keep_in_register([[maybe_unused]] Vector& vector) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  asm("" : "+v"(vector.raw));
#endif
}

// One step of R rows times T tokens.
template <class Format, int64_t R, int64_t T>
HWY_INLINE void multiply_step(const typename Format::Code* const (&rows)[R],
                              const Vector (&scales)[R], const float* x, int64_t x_stride,
                              Vector (&sums)[R][T]) {
  constexpr int64_t kVectors = columns_per_step(Format::kFormat) / kLanes;
  HWY_UNROLL(16)
  for (int64_t index = 0; index < kVectors; ++index) {
    Vector weights[R];
    HWY_UNROLL(4)
    for (int64_t r = 0; r < R; ++r) weights[r] = Format::decode(rows[r], index, scales[r]);
    HWY_UNROLL(8)
    for (int64_t t = 0; t < T; ++t) {
      Vector values = hn::LoadU(kFloats, x + t * x_stride + index * kLanes);
      if constexpr (R > 1 && T > 1) keep_in_register(values);
      HWY_UNROLL(4)
      for (int64_t r = 0; r < R; ++r) sums[r][t] = hn::MulAdd(weights[r], values, sums[r][t]);
    }
  }
}

#if HWY_TARGET == HWY_SCALAR
void store_sums(Vector a, Vector b, Vector c, Vector d, float* to) {
  const float sums[4] = {hn::GetLane(a), hn::GetLane(b), hn::GetLane(c), hn::GetLane(d)};
  std::copy_n(sums, 4, to);
}
#else
template <class D>
HWY_INLINE void store_sum_of_blocks(D d, hn::Vec<D> vector, float* to) {
  if constexpr (hn::MaxLanes(d) > 4) {
    const hn::Half<D> half;
    store_sum_of_blocks(half, hn::Add(hn::LowerHalf(half, vector), hn::UpperHalf(half, vector)),
                        to);
  } else {
    hn::StoreU(vector, d, to);
  }
}

// Stores the sums of the lanes of four vectors: together at less than half of the work of one after
// the other, and each in the same order whatever the other three are.
HWY_INLINE void store_sums(Vector a, Vector b, Vector c, Vector d, float* to) {
  const hn::RepartitionToWide<Floats> wide;
  const auto halves = [](Vector u, Vector v) HWY_ATTR {
    return hn::Add(hn::InterleaveLower(kFloats, u, v), hn::InterleaveUpper(kFloats, u, v));
  };
  const auto ab = hn::BitCast(wide, halves(a, b));
  const auto cd = hn::BitCast(wide, halves(c, d));
  const Vector sums = hn::Add(hn::BitCast(kFloats, hn::InterleaveLower(wide, ab, cd)),
                              hn::BitCast(kFloats, hn::InterleaveUpper(wide, ab, cd)));
  store_sum_of_blocks(kFloats, sums, to);
}
#endif

// Adds W[first + r] . x[t] to `sums`, a vector for each row and token, columns in order; reads `ahead`
// codes in advance. So an element's bits depend neither on R nor on T.
template <class Format, int64_t R, int64_t T>
HWY_INLINE void add_products(const Matrix& weight, int64_t first, const float* x, int64_t x_stride,
                             int64_t ahead, Vector (&sums)[R][T]) {
  using Code = typename Format::Code;
  constexpr int64_t kStep = columns_per_step(Format::kFormat);
  const int64_t columns = weight.columns;
  const int64_t groups = weight.groups();
  const Code* rows[R];
  const uint16_t* scale_rows[R];
  Vector scales[R];
  HWY_UNROLL(4)
  for (int64_t r = 0; r < R; ++r) {
    rows[r] = static_cast<const Code*>(weight.codes) + (first + r) * columns;
    scale_rows[r] = weight.scales == nullptr ? nullptr : weight.scales + (first + r) * groups;
  }
  int64_t column = 0;
  for (; column + kStep <= columns; column += kStep) {
    HWY_UNROLL(4)
    for (int64_t r = 0; r < R; ++r) {
      hwy::Prefetch(rows[r] + ahead);
      scales[r] = Format::scale(scale_rows[r], column / kScaleGroup);
    }
    multiply_step<Format, R, T>(rows, scales, x + column, x_stride, sums);
    HWY_UNROLL(4)
    for (int64_t r = 0; r < R; ++r) rows[r] += kStep;
  }
  if (column < columns) {
    Code tails[R][kStep] = {};
    HWY_UNROLL(4)
    for (int64_t r = 0; r < R; ++r) {
      std::copy_n(rows[r], columns - column, tails[r]);
      rows[r] = tails[r];
      scales[r] = Format::scale(scale_rows[r], column / kScaleGroup);
    }
    multiply_step<Format, R, T>(rows, scales, x + column, x_stride, sums);
  }
}

// out[t * kBlockStride + r] = W[first + r] . x[t].
template <class Format, int64_t R, int64_t T>
HWY_NOINLINE void multiply_tile(const Matrix& weight, int64_t first, const float* x,
                                int64_t x_stride, float* out) {
  constexpr auto kCodesAhead = [](int64_t bytes) {
    return bytes / static_cast<int64_t>(sizeof(typename Format::Code));
  };
  Vector sums[R][T];
  HWY_UNROLL(4)
  for (int64_t r = 0; r < R; ++r) {
    HWY_UNROLL(8)
    for (int64_t t = 0; t < T; ++t) sums[r][t] = hn::Zero(kFloats);
  }
  if constexpr (T == 1 && sizeof(typename Format::Code) < sizeof(float)) {
    // Rows of short codes are short: one after the other is one stream, which memory gives fastest.
    // In fp32 four streams side by side are as fast.
    HWY_UNROLL(4)
    for (int64_t r = 0; r < R; ++r) {
      Vector sum[1][1] = {{sums[r][0]}};
      add_products<Format, 1, 1>(weight, first + r, x, x_stride, kCodesAhead(kStreamAhead), sum);
      sums[r][0] = sum[0][0];
    }
  } else {
    // Whole tiles, so that every row's stream goes on where a later tile reads it.
    const int64_t tile = R * weight.columns;
    const int64_t ahead = (kCodesAhead(kTilesAhead) + tile - 1) / tile * tile;
    add_products<Format, R, T>(weight, first, x, x_stride, ahead, sums);
  }
  HWY_UNROLL(8)
  for (int64_t t = 0; t < T; ++t) {
    store_sums(sums[0][t], sums[1 % R][t], sums[2 % R][t], sums[3 % R][t], out + t * kBlockStride);
  }
}

// Rows [first, first + count) for T tokens.
template <class Format, int64_t T>
void multiply_tiles(const Matrix& weight, int64_t first, int64_t count, const float* x,
                    int64_t x_stride, float* out) {
  constexpr int64_t kRows = rows_per_tile(T);
  int64_t r = 0;
  for (; r + kRows <= count; r += kRows) {
    multiply_tile<Format, kRows, T>(weight, first + r, x, x_stride, out + r);
  }
  for (; r < count; ++r) multiply_tile<Format, 1, T>(weight, first + r, x, x_stride, out + r);
}

// out[t * kBlockStride + r] of a block of rows and at most kBlockTokens tokens.
template <class Format>
void multiply_block(const Matrix& weight, int64_t first, int64_t count, const float* x,
                    int64_t x_stride, int64_t tokens, float* out) {
  int64_t t = 0;
  const auto tiles = [&](auto tile) {
    constexpr int64_t kTokens = decltype(tile)::value;
    for (; t + kTokens <= tokens; t += kTokens) {
      multiply_tiles<Format, kTokens>(weight, first, count, x + t * x_stride, x_stride,
                                      out + t * kBlockStride);
    }
  };
  tiles(std::integral_constant<int64_t, kMostTokens>());
  if constexpr (kMostTokens > 4) tiles(std::integral_constant<int64_t, 4>());
  tiles(std::integral_constant<int64_t, 2>());
  tiles(std::integral_constant<int64_t, 1>());
}

// Adds the bias to `count` values of a block's row and activates them. `ups` are the block's of
// swiglu.
HWY_INLINE Vector finish_vector(const RowProduct& product, int64_t first, int64_t count,
                                const float* values, const float* ups, const float* y) {
  const auto biased = [&](const float* from, int64_t row) HWY_ATTR {
    const Vector sums = load_some(from, count);
    if (product.bias == nullptr) return sums;
    return hn::Add(sums, load_some(product.bias + row, count));
  };
  const Vector sum = biased(values, first);
  switch (product.epilogue) {
    case Epilogue::store: return sum;
    case Epilogue::add: return hn::Add(load_some(y, count), sum);
    case Epilogue::gelu_tanh: return gelu_tanh(kFloats, sum);
    case Epilogue::gelu_erf: return gelu_erf(kFloats, sum);
    case Epilogue::swiglu: break;
  }
  return hn::Mul(silu(kFloats, sum), biased(ups, product.weight.rows / 2 + first));
}

void finish_block(const RowProduct& product, int64_t first, int64_t count, int64_t first_token,
                  int64_t tokens, const Block& values, const Block& ups) {
  for (int64_t t = 0; t < tokens; ++t) {
    float* y = product.y + (first_token + t) * product.y_stride + first;
    for (int64_t r = 0; r < count; r += kLanes) {
      const int64_t some = std::min(kLanes, count - r);
      const size_t at = static_cast<size_t>(t * kBlockStride + r);
      const Vector result = finish_vector(product, first + r, some, &values[at], &ups[at], y + r);
      store_some(result, y + r, some);
    }
  }
}

template <class Format>
void multiply_format(const RowProduct& product, int64_t first, int64_t last) {
  Block values, ups;
  const int64_t half = product.weight.rows / 2;
  for (int64_t row = first; row < last; row += kBlockRows) {
    const int64_t count = std::min(kBlockRows, last - row);
    for (int64_t token = 0; token < product.tokens; token += kBlockTokens) {
      const int64_t tokens = std::min(kBlockTokens, product.tokens - token);
      const float* x = product.x + token * product.x_stride;
      multiply_block<Format>(product.weight, row, count, x, product.x_stride, tokens,
                             values.data());
      if (product.epilogue == Epilogue::swiglu) {
        multiply_block<Format>(product.weight, half + row, count, x, product.x_stride, tokens,
                               ups.data());
      }
      finish_block(product, row, count, token, tokens, values, ups);
    }
  }
}

void multiply_on_target(const RowProduct& product, int64_t first, int64_t last) {
  switch (product.weight.format) {
    case WeightFormat::f32: return multiply_format<F32>(product, first, last);
    case WeightFormat::bf16: return multiply_format<Bf16>(product, first, last);
    case WeightFormat::int8: return multiply_format<Int8>(product, first, last);
  }
}

// See Bf16: of every 2 * kLanes columns first the even ones, then the odd ones. Which column comes
// first within a pair of lanes is the byte order's choice, here as everywhere that Highway runs:
// little.
void split_pairs(const float* x, int64_t columns, float* packed) {
  constexpr int64_t kPair = 2 * kLanes;
  int64_t column = 0;
#if HWY_TARGET != HWY_SCALAR
  for (; column + kPair <= columns; column += kPair) {
    const Vector low = hn::LoadU(kFloats, x + column);
    const Vector high = hn::LoadU(kFloats, x + column + kLanes);
    hn::StoreU(hn::ConcatEven(kFloats, high, low), kFloats, packed + column);
    hn::StoreU(hn::ConcatOdd(kFloats, high, low), kFloats, packed + column + kLanes);
  }
#endif
  for (; column < columns; ++column) {
    const int64_t pair = column / kPair * kPair, within = column % kPair;
    packed[pair + within % 2 * kLanes + within / 2] = x[column];
  }
}

void pack_on_target(WeightFormat format, const float* x, int64_t x_stride, int64_t tokens,
                    int64_t columns, float* packed) {
  const int64_t width = packed_columns(format, columns);
  for (int64_t t = 0; t < tokens; ++t, x += x_stride, packed += width) {
    const int64_t whole = columns / columns_per_step(format) * columns_per_step(format);
    std::fill(packed + whole, packed + width, 0.0F);
    if (format == WeightFormat::bf16) {
      split_pairs(x, columns, packed);
    } else {
      std::copy_n(x, columns, packed);
    }
  }
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace kvlab::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

namespace kvlab::kernels {

HWY_EXPORT(multiply_on_target);
HWY_EXPORT(pack_on_target);

void multiply_rows(const RowProduct& product, int64_t first, int64_t last) {
  HWY_DYNAMIC_DISPATCH(multiply_on_target)(product, first, last);
}

void pack_tokens(WeightFormat format, const float* x, int64_t x_stride, int64_t tokens,
                 int64_t columns, float* packed) {
  HWY_DYNAMIC_DISPATCH(pack_on_target)(format, x, x_stride, tokens, columns, packed);
}

}  // namespace kvlab::kernels

#endif  // HWY_ONCE

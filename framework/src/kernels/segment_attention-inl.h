// Inner loops of attention over segments. Included once per instruction set.
#if defined(KVLAB_SEGMENT_ATTENTION_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KVLAB_SEGMENT_ATTENTION_INL
#undef KVLAB_SEGMENT_ATTENTION_INL
#else
#define KVLAB_SEGMENT_ATTENTION_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "segment_attention_work.h"

HWY_BEFORE_NAMESPACE();
namespace kvlab::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON
inline constexpr int kRegisters = 32;
#else
inline constexpr int kRegisters = 16;
#endif
// Vectors of sums that a loop keeps in registers.
inline constexpr int kAccumulators = kRegisters == 32 ? 24 : 12;
// Query rows that share one load of K or V.
inline constexpr int kMostRows = kRegisters == 32 ? 6 : 3;

// e^x for x <= 0, to 2e-7 relative; 0 below -87, NaN for NaN. Coefficients: Cephes' expf.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp_of_negative(D d, V x) {
  const hn::RebindToSigned<D> di;
  const auto tiny = hn::Lt(x, hn::Set(d, -87.0F));
  const V bounded = hn::IfThenElse(tiny, hn::Set(d, -87.0F), x);
  const V number = hn::Round(hn::Mul(bounded, hn::Set(d, 1.44269504088896341F)));
  V rest = hn::NegMulAdd(number, hn::Set(d, 0.693359375F), bounded);
  rest = hn::NegMulAdd(number, hn::Set(d, -2.12194440e-4F), rest);
  V sum = hn::Set(d, 1.9875691500e-4F);
  sum = hn::MulAdd(sum, rest, hn::Set(d, 1.3981999507e-3F));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 8.3334519073e-3F));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 4.1665795894e-2F));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 1.6666665459e-1F));
  sum = hn::MulAdd(sum, rest, hn::Set(d, 5.0000001201e-1F));
  sum = hn::MulAdd(sum, hn::Mul(rest, rest), hn::Add(rest, hn::Set(d, 1.0F)));
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, number), hn::Set(di, 127)));
  return hn::IfThenZeroElse(tiny, hn::Mul(sum, hn::BitCast(d, exponent)));
}

// How a format becomes vectors of fp32. A unit is what one load gives: kVectors vectors of
// elements, for bf16 the even and the odd ones of two vectors' worth.
struct F32Reader {
  static constexpr int kVectors = 1;
  template <class D, class V>
  static HWY_INLINE void load(D d, const char* row, int64_t i, V* to) {
    to[0] = hn::LoadU(d, reinterpret_cast<const float*>(row) + i);
  }
  static float at(const char* row, int64_t i) { return reinterpret_cast<const float*>(row)[i]; }
};

struct Bf16Reader {
  static constexpr int kVectors = 2;
  template <class D, class V>
  static HWY_INLINE void load(D d, const char* row, int64_t i, V* to) {
#if HWY_TARGET == HWY_SCALAR
    to[0] = hn::Set(d, at(row, i));
    to[1] = hn::Set(d, at(row, i + 1));
#else
    const hn::RebindToUnsigned<D> du;
    const hn::Repartition<uint16_t, D> du16;
    const auto pairs = hn::BitCast(du, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(row) + i));
    to[0] = hn::BitCast(d, hn::ShiftLeft<16>(pairs));
    to[1] = hn::BitCast(d, hn::And(pairs, hn::Set(du, 0xFFFF0000U)));
#endif
  }
  static float at(const char* row, int64_t i) {
    uint16_t bits;
    std::memcpy(&bits, row + 2 * i, sizeof(bits));
    const uint32_t wide = uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
  }
};

struct Int8Reader {
  static constexpr int kVectors = 1;
  template <class D, class V>
  static HWY_INLINE void load(D d, const char* row, int64_t i, V* to) {
    const hn::RebindToSigned<D> di;
    const hn::Rebind<int8_t, D> d8;
    to[0] = hn::ConvertTo(
        d, hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const int8_t*>(row) + i)));
  }
  static float at(const char* row, int64_t i) { return reinterpret_cast<const int8_t*>(row)[i]; }
};

// The last elements of a row, in their order, zeros behind them.
template <class Reader, class D>
HWY_INLINE hn::Vec<D> load_tail(D d, const char* row, int64_t i, int64_t dim) {
  HWY_ALIGN float tail[HWY_MAX_BYTES / sizeof(float)] = {};
  for (int64_t k = 0; i + k < dim; ++k) tail[k] = Reader::at(row, i + k);
  return hn::Load(d, tail);
}

// Calls `function` with the reader of a format.
template <typename Function>
HWY_INLINE void with_reader(EntryFormat format, Function&& function) {
  if (format == EntryFormat::f32) {
    function(F32Reader());
  } else if (format == EntryFormat::bf16) {
    function(Bf16Reader());
  } else {
    function(Int8Reader());
  }
}

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Calls `function(Constant<n>, row)` for all rows, n of them at a time.
template <typename Function>
HWY_INLINE void by_rows(int64_t rows, Function&& function) {
  int64_t row = 0;
  if constexpr (kMostRows == 6) {
    for (; row + 6 <= rows; row += 6) function(Constant<6>(), row);
    if (row + 4 <= rows) {
      function(Constant<4>(), row);
      row += 4;
    }
  }
  for (; row + 3 <= rows; row += 3) function(Constant<3>(), row);
  if (row + 2 <= rows) {
    function(Constant<2>(), row);
    row += 2;
  }
  if (row < rows) function(Constant<1>(), row);
}

// Stores the sums of the four vectors' lanes.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void store_four_sums(D d, V a, V b, V c, V e, float* to) {
#if HWY_TARGET == HWY_SCALAR
  to[0] = hn::GetLane(a);
  to[1] = hn::GetLane(b);
  to[2] = hn::GetLane(c);
  to[3] = hn::GetLane(e);
  (void)d;
#else
  const hn::RepartitionToWide<D> dw;
  const V ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const V ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto wide_ab = hn::BitCast(dw, ab), wide_ce = hn::BitCast(dw, ce);
  const V all = hn::Add(hn::BitCast(d, hn::InterleaveLower(dw, wide_ab, wide_ce)),
                        hn::BitCast(d, hn::InterleaveUpper(dw, wide_ab, wide_ce)));
  if constexpr (hn::MaxLanes(D()) == 4) {
    hn::StoreU(all, d, to);
  } else {
    const hn::Half<D> dh;
    const auto half = hn::Add(hn::LowerHalf(dh, all), hn::UpperHalf(dh, all));
    if constexpr (hn::MaxLanes(D()) == 8) {
      hn::StoreU(half, dh, to);
    } else {
      const hn::Half<decltype(dh)> dq;
      const auto quarter = hn::Add(hn::LowerHalf(dq, half), hn::UpperHalf(dq, half));
      hn::StoreU(quarter, dq, to);
    }
  }
#endif
}

// Products of kRows packed queries with kKeys entries, stored to scores[row * stride + key].
template <class Reader, int kRows, int kKeys>
HWY_INLINE void score_block(const char* const* keys, int64_t dim, const float* queries,
                            int64_t query_stride, float* scores, int64_t stride) {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  const D d;
  constexpr int kVectors = Reader::kVectors;
  const auto unit = static_cast<int64_t>(hn::Lanes(d)) * kVectors;
  V sums[kRows * kKeys];
  HWY_UNROLL(32)
  for (int i = 0; i < kRows * kKeys; ++i) sums[i] = hn::Zero(d);
  int64_t i = 0;
  for (; i + unit <= dim; i += unit) {
    V query[kRows * kVectors];
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      HWY_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) {
        query[r * kVectors + v] =
            hn::Load(d, queries + r * query_stride + i + v * static_cast<int64_t>(hn::Lanes(d)));
      }
    }
    HWY_UNROLL(8)
    for (int k = 0; k < kKeys; ++k) {
      V key[kVectors];
      Reader::load(d, keys[k], i, key);
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        HWY_UNROLL(2)
        for (int v = 0; v < kVectors; ++v) {
          sums[r * kKeys + k] = hn::MulAdd(query[r * kVectors + v], key[v], sums[r * kKeys + k]);
        }
      }
    }
  }
  for (; i < dim; i += static_cast<int64_t>(hn::Lanes(d))) {
    for (int k = 0; k < kKeys; ++k) {
      const V key =
          load_tail<Reader>(d, keys[k], i, std::min(dim, i + static_cast<int64_t>(hn::Lanes(d))));
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        sums[r * kKeys + k] =
            hn::MulAdd(hn::Load(d, queries + r * query_stride + i), key, sums[r * kKeys + k]);
      }
    }
  }
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) {
    HWY_UNROLL(2)
    for (int k = 0; k < kKeys; k += 4) {
      const V* const s = sums + r * kKeys + k;
      store_four_sums(d, s[0], s[1], s[2], s[3], scores + r * stride + k);
    }
  }
}

// Products of packed queries with entries at `stride` bytes. Writes up to 7 scores behind the last.
// Calls `read(n)` before it reads the next n entries.
template <typename Read>
HWY_INLINE void score_rows(EntryFormat format, const char* keys, int64_t key_stride, int64_t count,
                           int64_t dim, const float* queries, int64_t query_stride, int64_t rows,
                           float* scores, int64_t stride, Read&& read) {
  with_reader(format, [&](auto reader) {
    using Reader = decltype(reader);
    constexpr int kKeys = 8;
    for (int64_t first = 0; first < count; first += kKeys) {
      const char* at[kKeys];
      for (int k = 0; k < kKeys; ++k) {
        at[k] = keys + std::min(first + k, count - 1) * key_stride;
      }
      read(std::min<int64_t>(kKeys, count - first));
      by_rows(rows, [&](auto constant, int64_t row) {
        constexpr int kRows = decltype(constant)::value;
        constexpr int kSome = kRows * 8 <= (kRegisters == 32 ? 16 : 8) ? 8 : 4;
        for (int k = 0; k < kKeys; k += kSome) {
          score_block<Reader, kRows, kSome>(at + k, dim, queries + row * query_stride, query_stride,
                                            scores + row * stride + first + k, stride);
        }
      });
    }
  });
}

// Adds weighted entries to kRows sums, kUnits loads of each entry.
template <class Reader, int kRows, int kUnits>
HWY_INLINE void mix_block(const char* values, int64_t value_stride, int64_t count, int64_t first,
                          const float* weights, int64_t weight_stride, float* mixed,
                          int64_t mixed_stride) {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  const D d;
  constexpr int kVectors = Reader::kVectors * kUnits;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V sums[kRows * kVectors];
  HWY_UNROLL(32)
  for (int i = 0; i < kRows * kVectors; ++i) {
    sums[i] = hn::Load(d, mixed + i / kVectors * mixed_stride + first + i % kVectors * lanes);
  }
  for (int64_t e = 0; e < count; ++e) {
    V weight[kRows];
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) weight[r] = hn::Set(d, weights[r * weight_stride + e]);
    HWY_UNROLL(8)
    for (int u = 0; u < kUnits; ++u) {
      V value[Reader::kVectors];
      Reader::load(d, values + e * value_stride, first + u * Reader::kVectors * lanes, value);
      HWY_UNROLL(8)
      for (int r = 0; r < kRows; ++r) {
        HWY_UNROLL(2)
        for (int v = 0; v < Reader::kVectors; ++v) {
          V& sum = sums[r * kVectors + u * Reader::kVectors + v];
          sum = hn::MulAdd(weight[r], value[v], sum);
        }
      }
    }
  }
  HWY_UNROLL(32)
  for (int i = 0; i < kRows * kVectors; ++i) {
    hn::Store(sums[i], d, mixed + i / kVectors * mixed_stride + first + i % kVectors * lanes);
  }
}

// mixed[row] += sum over entries of weights[row][entry] * values[entry]. Calls `read(n)` before it
// reads the next n entries.
template <typename Read>
HWY_INLINE void mix_rows(EntryFormat format, const char* values, int64_t value_stride,
                         int64_t count, int64_t dim, const float* weights, int64_t weight_stride,
                         int64_t rows, float* mixed, int64_t mixed_stride, Read&& read) {
  using D = hn::ScalableTag<float>;
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kEntries = 16;  // that stay in the first cache for all rows
  with_reader(format, [&](auto reader) {
    using Reader = decltype(reader);
    const int64_t unit = lanes * Reader::kVectors;
    for (int64_t start = 0; start < count; start += kEntries) {
      const int64_t some = std::min(kEntries, count - start);
      const char* const from = values + start * value_stride;
      read(some);
      by_rows(rows, [&](auto constant, int64_t row) {
        constexpr int kRows = decltype(constant)::value;
        constexpr int kFits = std::max(1, kAccumulators / (kRows * Reader::kVectors));
        constexpr int kUnits = kFits >= 8 ? 8 : kFits >= 4 ? 4 : kFits >= 2 ? 2 : 1;
        const float* const own = weights + row * weight_stride + start;
        float* const to = mixed + row * mixed_stride;
        int64_t i = 0;
        const auto block = [&](auto units) {
          constexpr int kSome = decltype(units)::value;
          for (; i + kSome * unit <= dim; i += kSome * unit) {
            mix_block<Reader, kRows, kSome>(from, value_stride, some, i, own, weight_stride, to,
                                            mixed_stride);
          }
        };
        block(Constant<kUnits>());
        if constexpr (kUnits > 4) block(Constant<4>());
        if constexpr (kUnits > 2) block(Constant<2>());
        if constexpr (kUnits > 1) block(Constant<1>());
        for (; i < dim; i += lanes) {
          for (int64_t e = 0; e < some; ++e) {
            const auto value =
                load_tail<Reader>(d, from + e * value_stride, i, std::min(dim, i + lanes));
            for (int r = 0; r < kRows; ++r) {
              float* const sum = to + r * mixed_stride + i;
              hn::Store(hn::MulAdd(hn::Set(d, own[r * weight_stride + e]), value, hn::Load(d, sum)),
                        d, sum);
            }
          }
        }
      });
    }
  });
}

// Writes a row as fp32.
inline void decode_row(EntryFormat format, const char* row, int64_t dim, float scale, float* to) {
  using D = hn::ScalableTag<float>;
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  if (format == EntryFormat::f32) {
    std::memcpy(to, row, static_cast<size_t>(dim) * sizeof(float));
    return;
  }
  int64_t i = 0;
  if (format == EntryFormat::bf16) {
    for (; i + 2 * lanes <= dim; i += 2 * lanes) {
      hn::Vec<D> pair[2];
      Bf16Reader::load(d, row, i, pair);
      hn::StoreInterleaved2(pair[0], pair[1], d, to + i);
    }
    for (; i < dim; ++i) to[i] = Bf16Reader::at(row, i);
    return;
  }
  for (; i + lanes <= dim; i += lanes) {
    hn::Vec<D> value;
    Int8Reader::load(d, row, i, &value);
    hn::StoreU(hn::Mul(value, hn::Set(d, scale)), d, to + i);
  }
  for (; i < dim; ++i) to[i] = Int8Reader::at(row, i) * scale;
}

// Rounds to the nearest bf16, ties to even.
inline void round_to_bf16_inline(float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, sizeof(bits));
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) continue;  // NaN
    bits = (bits + 0x7FFFU + ((bits >> 16) & 1U)) & 0xFFFF0000U;
    std::memcpy(values + i, &bits, sizeof(bits));
  }
}

// to[column][row] = from[row][column]; both counts in steps of 4.
inline void transpose_rows(const float* from, int64_t stride, int64_t rows, int64_t columns,
                           float* to) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      to[column * rows + row] = from[row * stride + column];
    }
  }
#else
  const hn::FixedTag<float, 4> d;
  const hn::RepartitionToWide<decltype(d)> dw;
  for (int64_t row = 0; row < rows; row += 4) {
    const float* const at = from + row * stride;
    for (int64_t column = 0; column < columns; column += 4) {
      const auto a = hn::Load(d, at + column), b = hn::Load(d, at + stride + column);
      const auto c = hn::Load(d, at + 2 * stride + column);
      const auto e = hn::Load(d, at + 3 * stride + column);
      const auto ab = hn::BitCast(dw, hn::InterleaveLower(d, a, b));
      const auto ce = hn::BitCast(dw, hn::InterleaveLower(d, c, e));
      const auto upper_ab = hn::BitCast(dw, hn::InterleaveUpper(d, a, b));
      const auto upper_ce = hn::BitCast(dw, hn::InterleaveUpper(d, c, e));
      float* const out = to + column * rows + row;
      hn::Store(hn::BitCast(d, hn::InterleaveLower(dw, ab, ce)), d, out);
      hn::Store(hn::BitCast(d, hn::InterleaveUpper(dw, ab, ce)), d, out + rows);
      hn::Store(hn::BitCast(d, hn::InterleaveLower(dw, upper_ab, upper_ce)), d, out + 2 * rows);
      hn::Store(hn::BitCast(d, hn::InterleaveUpper(dw, upper_ab, upper_ce)), d, out + 3 * rows);
    }
  }
#endif
}

enum class Sum { fresh, more };

// c[row] (+)= sum over k of a(row)[k] * b[k], kVectors vectors of columns.
template <int kRows, int kVectors, class Rows>
HWY_INLINE void multiply_block(Rows a, int64_t first_row, int64_t depth, const float* b,
                               int64_t b_stride, float* c, int64_t c_stride, Sum sum) {
  using D = hn::ScalableTag<float>;
  using V = hn::Vec<D>;
  const D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const float* rows[kRows];
  HWY_UNROLL(8)
  for (int r = 0; r < kRows; ++r) rows[r] = a(first_row + r);
  V sums[kRows * kVectors];
  HWY_UNROLL(32)
  for (int i = 0; i < kRows * kVectors; ++i) {
    sums[i] = sum == Sum::fresh ? hn::Zero(d)
                                : hn::Load(d, c + i / kVectors * c_stride + i % kVectors * lanes);
  }
  for (int64_t k = 0; k < depth; ++k) {
    V column[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) column[v] = hn::Load(d, b + k * b_stride + v * lanes);
    HWY_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const V factor = hn::Set(d, rows[r][k]);
      HWY_UNROLL(4)
      for (int v = 0; v < kVectors; ++v) {
        sums[r * kVectors + v] = hn::MulAdd(factor, column[v], sums[r * kVectors + v]);
      }
    }
  }
  HWY_UNROLL(32)
  for (int i = 0; i < kRows * kVectors; ++i) {
    hn::Store(sums[i], d, c + i / kVectors * c_stride + i % kVectors * lanes);
  }
}

// c[rows, columns] (+)= a [rows, depth] b [depth, columns]; columns in steps of 16 floats, rows of
// b and c aligned.
template <class Rows>
HWY_INLINE void multiply_matrices(Rows a, int64_t rows, int64_t depth, const float* b,
                                  int64_t b_stride, int64_t columns, float* c, int64_t c_stride,
                                  Sum sum) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  int64_t column = 0;
  const auto block = [&](auto vectors) {
    constexpr int kVectors = decltype(vectors)::value;
    for (; column + kVectors * lanes <= columns; column += kVectors * lanes) {
      by_rows(rows, [&](auto constant, int64_t row) {
        constexpr int kRows = decltype(constant)::value;
        multiply_block<kRows, kVectors>(a, row, depth, b + column, b_stride,
                                        c + row * c_stride + column, c_stride, sum);
      });
    }
  };
  block(Constant<4>());
  block(Constant<2>());
  block(Constant<1>());
}

}  // namespace HWY_NAMESPACE
}  // namespace kvlab::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target guard

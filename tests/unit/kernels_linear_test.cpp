// Products of a weight matrix with few tokens, against sums in double precision, on every
// instruction set that this processor runs.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/kernels/elementwise.h"
#include "kvlab/kernels/linear.h"
#include "kvlab/kernels/target.h"

namespace kvlab::kernels {
namespace {

constexpr uint64_t kSeed = 20260;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr Epilogue kEpilogues[] = {Epilogue::store, Epilogue::add, Epilogue::gelu_tanh,
                                   Epilogue::gelu_erf, Epilogue::swiglu};
constexpr WeightFormat kFormats[] = {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8};
// Rounding of a product's sum in fp32, relative to the sum of the magnitudes: some 2^-24 per
// addition of a lane, most of which cancel; a lane of the smallest vectors adds some hundred
// products here.
constexpr double kTolerance = 2e-6;

std::vector<float> normal(int64_t count, std::mt19937_64& random, float sigma = 1) {
  std::normal_distribution<float> distribution(0, sigma);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}

float widened(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// A matrix with its own memory; what lies behind the last row is NaN and must not be read as a
// weight.
class Weights {
 public:
  Weights(WeightFormat format, int64_t rows, int64_t columns, std::mt19937_64& random)
      : format_(format), rows_(rows), columns_(columns), floats_(normal(rows * columns, random)) {
    const size_t count = floats_.size();
    if (format == WeightFormat::bf16) {
      halves_.resize(count + 64, 0x7FC0);
      to_bf16(floats_.data(), halves_.data(), rows * columns);
      for (size_t i = 0; i < count; ++i) values_.push_back(widened(halves_[i]));
    } else if (format == WeightFormat::int8) {
      bytes_.resize(count + 64, 127);
      scales_.resize(static_cast<size_t>(rows * matrix().groups()) + 2, 0x7FC0);
      quantise(floats_.data(), rows, columns, bytes_.data(), scales_.data());
      for (size_t i = 0; i < count; ++i) values_.push_back(bytes_[i] * double{scale_of(i)});
    } else {
      values_.assign(floats_.begin(), floats_.end());
      floats_.resize(count + 64, kNan);
    }
  }

  Matrix matrix() const {
    Matrix matrix;
    matrix.codes = format_ == WeightFormat::f32    ? static_cast<const void*>(floats_.data())
                   : format_ == WeightFormat::bf16 ? static_cast<const void*>(halves_.data())
                                                   : static_cast<const void*>(bytes_.data());
    if (format_ == WeightFormat::int8) matrix.scales = scales_.data();
    matrix.rows = rows_;
    matrix.columns = columns_;
    matrix.format = format_;
    return matrix;
  }

  double value(int64_t row, int64_t column) const {
    return values_[static_cast<size_t>(row * columns_ + column)];
  }

 private:
  float scale_of(size_t index) const {
    const int64_t row = static_cast<int64_t>(index) / columns_;
    const int64_t group = static_cast<int64_t>(index) % columns_ / kScaleGroup;
    return widened(scales_[static_cast<size_t>(row * matrix().groups() + group)]);
  }

  WeightFormat format_;
  int64_t rows_, columns_;
  std::vector<float> floats_;
  std::vector<uint16_t> halves_, scales_;
  std::vector<int8_t> bytes_;
  std::vector<double> values_;
};

// A sum, and the sum of the magnitudes that it was rounded against.
struct Sum {
  double value = 0, magnitude = 0;
};

double activated(Epilogue epilogue, double x) {
  switch (epilogue) {
    case Epilogue::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Epilogue::gelu_erf: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Epilogue::swiglu: return x / (1 + std::exp(-x));
    default: return x;
  }
}

// One call: strides leave gaps with NaN behind the rows of x and with a mark behind those of y, and
// all pointers are off the alignment of a vector.
struct Call {
  Call(WeightFormat format, int64_t row_count, int64_t columns, int64_t token_count, Epilogue what,
       bool with_bias, std::mt19937_64& random)
      : weights(format, row_count, columns, random),
        rows(row_count),
        width(columns),
        tokens(token_count),
        outputs(what == Epilogue::swiglu ? row_count / 2 : row_count),
        epilogue(what),
        x_stride(columns + 3),
        y_stride(outputs + 5),
        x(normal(tokens * x_stride + 1, random)),
        bias(with_bias ? normal(rows + 1, random) : std::vector<float>()),
        before(normal(tokens * y_stride + 1, random)) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = columns; i < x_stride; ++i)
        x[static_cast<size_t>(1 + t * x_stride + i)] = kNan;
    }
  }

  std::vector<float> run(int threads) const {
    ThreadPool pool(threads);
    LinearScratch scratch;
    std::vector<float> y = before;
    linear(weights.matrix(), bias.empty() ? nullptr : bias.data() + 1, x.data() + 1, x_stride,
           tokens, y.data() + 1, y_stride, epilogue, scratch, pool);
    return y;
  }

  Sum product(int64_t token, int64_t row) const {
    Sum sum;
    const auto add = [&](double term) {
      sum.value += term;
      sum.magnitude += std::abs(term);
    };
    for (int64_t c = 0; c < width; ++c) {
      add(weights.value(row, c) * x[static_cast<size_t>(1 + token * x_stride + c)]);
    }
    if (!bias.empty()) add(bias[static_cast<size_t>(row + 1)]);
    return sum;
  }

  Sum expected(int64_t token, int64_t output) const {
    Sum sum = product(token, output);
    if (epilogue == Epilogue::add) {
      const double there = before[static_cast<size_t>(1 + token * y_stride + output)];
      return {sum.value + there, sum.magnitude + std::abs(there)};
    }
    // No activation is steeper than 1.13.
    Sum result{activated(epilogue, sum.value), 1.13 * sum.magnitude};
    if (epilogue == Epilogue::swiglu) {
      const Sum up = product(token, outputs + output);
      result.magnitude =
          result.magnitude * std::abs(up.value) + std::abs(result.value) * up.magnitude;
      result.value *= up.value;
    }
    return result;
  }

  std::string describe() const {
    return detail::concat(target(), ", format ", static_cast<int>(weights.matrix().format), ", ",
                          rows, " x ", width, ", ", tokens, " tokens, epilogue ",
                          static_cast<int>(epilogue), bias.empty() ? "" : ", bias", ", seed ",
                          kSeed);
  }

  // The first element that is wrong, or "".
  std::string mistake(const std::vector<float>& y) const {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = 0; i < y_stride; ++i) {
        const size_t at = static_cast<size_t>(1 + t * y_stride + i);
        if (i >= outputs) {
          if (y[at] != before[at]) return detail::concat("wrote behind row ", t, " of y");
          continue;
        }
        const Sum sum = expected(t, i);
        if (!(std::abs(y[at] - sum.value) <= kTolerance * sum.magnitude + 1e-30)) {
          return detail::concat("y[", t, ", ", i, "] is ", y[at], ", wanted ", sum.value);
        }
      }
    }
    return "";
  }

  Weights weights;
  int64_t rows, width, tokens, outputs;
  Epilogue epilogue;
  int64_t x_stride, y_stride;
  std::vector<float> x, bias, before;
};

class KernelsLinear : public testing::Test {
 protected:
  void TearDown() override { use_target(""); }
};

TEST_F(KernelsLinear, AgreesWithDoublePrecisionForEveryFormatAndEpilogue) {
  for (const std::string& name : available_targets()) {
    use_target(name);
    std::mt19937_64 random(kSeed);
    for (const WeightFormat format : kFormats) {
      for (const Epilogue epilogue : kEpilogues) {
        for (const int64_t tokens : {1, 2, 3, 8}) {
          const Call call(format, 58, 96, tokens, epilogue, tokens % 2 == 1, random);
          EXPECT_EQ(call.mistake(call.run(2)), "") << call.describe();
        }
      }
    }
  }
}

TEST_F(KernelsLinear, AgreesForSizesThatFillNoVectorNoTileAndNoGroup) {
  for (const std::string& name : available_targets()) {
    use_target(name);
    std::mt19937_64 random(kSeed + 1);
    for (const WeightFormat format : kFormats) {
      for (const int64_t columns : {1, 2, 7, 15, 31, 32, 33, 63, 65, 97, 576}) {
        for (const int64_t rows : {1, 2, 5, 12, 49, 101}) {
          const int64_t tokens = 1 + static_cast<int64_t>(random() % 18);
          const Call call(format, rows, columns, tokens, Epilogue::store, random() % 2 == 0,
                          random);
          EXPECT_EQ(call.mistake(call.run(1)), "") << call.describe();
        }
      }
      const Call pairs(format, 2, 40, 3, Epilogue::swiglu, true, random);
      EXPECT_EQ(pairs.mistake(pairs.run(1)), "") << pairs.describe();
    }
  }
}

TEST_F(KernelsLinear, BitsDoNotDependOnTheNumberOfThreads) {
  for (const std::string& name : available_targets()) {
    use_target(name);
    std::mt19937_64 random(kSeed + 2);
    for (const WeightFormat format : kFormats) {
      for (const int64_t tokens : {1, 5, 8}) {
        // Large enough for several items.
        const Call call(format, 1200, 300, tokens, Epilogue::swiglu, true, random);
        const std::vector<float> alone = call.run(1);
        for (const int threads : {2, 3, 7}) {
          EXPECT_TRUE(call.run(threads) == alone) << call.describe() << ", threads " << threads;
        }
      }
    }
  }
}

TEST_F(KernelsLinear, BitsOfATokenDoNotDependOnTheTokensBesideIt) {
  for (const std::string& name : available_targets()) {
    use_target(name);
    std::mt19937_64 random(kSeed + 3);
    for (const WeightFormat format : kFormats) {
      const Call call(format, 50, 200, 15, Epilogue::gelu_tanh, true, random);
      const std::vector<float> together = call.run(1);
      ThreadPool pool(1);
      LinearScratch scratch;
      for (int64_t t = 0; t < call.tokens; ++t) {
        std::vector<float> y(static_cast<size_t>(call.outputs));
        linear(call.weights.matrix(), call.bias.data() + 1, call.x.data() + 1 + t * call.x_stride,
               call.x_stride, 1, y.data(), call.outputs, call.epilogue, scratch, pool);
        EXPECT_EQ(std::memcmp(y.data(), together.data() + 1 + t * call.y_stride,
                              y.size() * sizeof(float)),
                  0)
            << call.describe() << ", token " << t;
      }
    }
  }
}

TEST_F(KernelsLinear, NanAndInfinityReachTheResult) {
  for (const std::string& name : available_targets()) {
    use_target(name);
    std::mt19937_64 random(kSeed + 4);
    for (const Epilogue epilogue : kEpilogues) {
      for (const float bad : {kNan, std::numeric_limits<float>::infinity()}) {
        Call call(WeightFormat::f32, 6, 40, 2, epilogue, false, random);
        call.x[1 + 5] = bad;
        const std::vector<float> y = call.run(1);
        EXPECT_FALSE(all_finite({y.data() + 1, static_cast<size_t>(call.outputs)}))
            << call.describe();
        EXPECT_TRUE(all_finite({y.data() + 1 + call.y_stride, static_cast<size_t>(call.outputs)}))
            << call.describe();
      }
    }
  }
}

TEST_F(KernelsLinear, ScratchIsReusedAcrossShapesAndFormats) {
  std::mt19937_64 random(kSeed + 5);
  ThreadPool pool(2);
  LinearScratch scratch;
  for (const int64_t columns : {33, 576, 7, 65}) {
    for (const WeightFormat format : kFormats) {
      const Call call(format, 30, columns, 4, Epilogue::store, false, random);
      std::vector<float> y = call.before;
      linear(call.weights.matrix(), nullptr, call.x.data() + 1, call.x_stride, call.tokens,
             y.data() + 1, call.y_stride, call.epilogue, scratch, pool);
      EXPECT_EQ(call.mistake(y), "") << call.describe();
    }
  }
}

TEST_F(KernelsLinear, SwigluNeedsAnEvenNumberOfRows) {
  std::mt19937_64 random(kSeed);
  const Call call(WeightFormat::f32, 5, 4, 1, Epilogue::swiglu, false, random);
  try {
    call.run(1);
    FAIL() << "five rows are no pairs";
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[kernels.linear] swiglu wants as many gates as ups: got 5 rows of weights");
  }
}

TEST_F(KernelsLinear, QuantisedWeightsAreWithinHalfAScale) {
  std::mt19937_64 random(kSeed + 6);
  for (const int64_t columns : {1, 31, 32, 70}) {
    constexpr int64_t kRows = 9;
    std::vector<float> weights = normal(kRows * columns, random, 0.02F);
    weights[0] = 3;  // an outlier costs its own group only
    const int64_t groups = (columns + kScaleGroup - 1) / kScaleGroup;
    std::vector<int8_t> codes(weights.size());
    std::vector<uint16_t> scales(static_cast<size_t>(kRows * groups));
    quantise(weights.data(), kRows, columns, codes.data(), scales.data());
    for (int64_t row = 0; row < kRows; ++row) {
      for (int64_t group = 0; group < groups; ++group) {
        const float scale = widened(scales[static_cast<size_t>(row * groups + group)]);
        float largest = 0;
        const int64_t last = std::min(columns, (group + 1) * kScaleGroup);
        for (int64_t c = group * kScaleGroup; c < last; ++c) {
          const size_t at = static_cast<size_t>(row * columns + c);
          largest = std::max(largest, std::abs(weights[at]));
          EXPECT_LE(std::abs(codes[at] * double{scale} - weights[at]), 0.5001 * scale);
          EXPECT_NE(codes[at], -128);
        }
        // A bf16 number has 8 bits: the scale is at most 1/128 above the smallest that would do.
        EXPECT_GE(scale * 127.0, largest);
        EXPECT_LE(scale * 127.0, largest * 1.008);
      }
    }
  }
}

TEST_F(KernelsLinear, GroupsOfZerosAndOfSubnormalWeightsQuantise) {
  std::vector<float> weights(64, 0.0F);
  weights[40] = std::numeric_limits<float>::denorm_min();
  weights[41] = -std::numeric_limits<float>::min();
  std::vector<int8_t> codes(64, 1);
  std::vector<uint16_t> scales(2, 1);
  quantise(weights.data(), 1, 64, codes.data(), scales.data());
  EXPECT_EQ(scales[0], 0);
  EXPECT_EQ(codes, std::vector<int8_t>([] {
              std::vector<int8_t> wanted(64, 0);
              wanted[41] = -1;
              return wanted;
            }()));
}

TEST_F(KernelsLinear, DecodedRowsAreTheMatrix) {
  for (const std::string& name : available_targets()) {
    use_target(name);
    std::mt19937_64 random(kSeed + 7);
    for (const WeightFormat format : kFormats) {
      const Weights weights(format, 200, 37, random);
      ThreadPool pool(3);
      std::vector<float> decoded(150 * 37, kNan);
      decode_rows(weights.matrix(), 40, 150, decoded.data(), pool);
      for (int64_t row = 0; row < 150; ++row) {
        for (int64_t c = 0; c < 37; ++c) {
          ASSERT_EQ(decoded[static_cast<size_t>(row * 37 + c)],
                    static_cast<float>(weights.value(40 + row, c)));
        }
      }
      EXPECT_THROW(decode_rows(weights.matrix(), 100, 101, decoded.data(), pool), UserError);
    }
  }
}

}  // namespace
}  // namespace kvlab::kernels

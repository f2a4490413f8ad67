// Norms, activations, conversions and checks on fp32 rows, on every instruction set that this
// processor runs.
#include "kvlab/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/kernels/target.h"

namespace kvlab::kernels {
namespace {

constexpr uint64_t kSeed = 41;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kWidths[] = {1, 3, 7, 16, 33, 64, 100, 576};

std::vector<float> normal(int64_t count, std::mt19937_64& random, float mean = 0) {
  std::normal_distribution<float> distribution(mean, 1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(random);
  return values;
}

class KernelsElementwise : public testing::Test {
 protected:
  void TearDown() override { use_target(""); }

  static void on_every_target(const std::function<void(std::mt19937_64& random)>& check) {
    for (const std::string& name : available_targets()) {
      SCOPED_TRACE(detail::concat(name, ", seed ", kSeed));
      use_target(name);
      std::mt19937_64 random(kSeed);
      check(random);
    }
  }
};

TEST_F(KernelsElementwise, NormsAgreeWithDoublePrecision) {
  on_every_target([](std::mt19937_64& random) {
    for (const int64_t width : kWidths) {
      constexpr int64_t kTokens = 5;
      const std::vector<float> x = normal(kTokens * width, random, 0.5F);
      const std::vector<float> weight = normal(width, random), bias = normal(width, random);
      ThreadPool pool(2);
      std::vector<float> rms(x.size()), layer(x.size()), plain(x.size());
      rms_norm(x.data(), weight.data(), 1e-5, width, kTokens, rms.data(), pool);
      layer_norm(x.data(), weight.data(), bias.data(), 1e-5, width, kTokens, layer.data(), pool);
      layer_norm(x.data(), weight.data(), nullptr, 1e-5, width, kTokens, plain.data(), pool);
      for (int64_t n = 0; n < kTokens; ++n) {
        double square = 0, mean = 0, variance = 0;
        for (int64_t i = 0; i < width; ++i) {
          const double value = x[static_cast<size_t>(n * width + i)];
          square += value * value / static_cast<double>(width);
          mean += value / static_cast<double>(width);
        }
        for (int64_t i = 0; i < width; ++i) {
          const double part = x[static_cast<size_t>(n * width + i)] - mean;
          variance += part * part / static_cast<double>(width);
        }
        for (int64_t i = 0; i < width; ++i) {
          const size_t at = static_cast<size_t>(n * width + i), column = static_cast<size_t>(i);
          const double scaled = x[at] / std::sqrt(square + 1e-5) * weight[column];
          EXPECT_NEAR(rms[at], scaled, 1e-6 * (1 + std::abs(scaled))) << "width " << width;
          // A row of one element has variance 0: what the mean was rounded by is divided by
          // sqrt(epsilon).
          const double centred = (x[at] - mean) / std::sqrt(variance + 1e-5) * weight[column];
          const double slack = 2e-6 * (1 + std::abs(centred) + std::abs(bias[column]));
          EXPECT_NEAR(plain[at], centred, slack) << "width " << width;
          EXPECT_NEAR(layer[at], centred + bias[column], slack) << "width " << width;
        }
      }
    }
  });
}

TEST_F(KernelsElementwise, NormsWorkInPlace) {
  on_every_target([](std::mt19937_64& random) {
    constexpr int64_t kWidth = 70;
    std::vector<float> x = normal(3 * kWidth, random), y(x.size());
    const std::vector<float> weight = normal(kWidth, random);
    ThreadPool pool(1);
    rms_norm(x.data(), weight.data(), 1e-5, kWidth, 3, y.data(), pool);
    std::vector<float> same = x;
    rms_norm(same.data(), weight.data(), 1e-5, kWidth, 3, same.data(), pool);
    EXPECT_EQ(same, y);
    layer_norm(x.data(), weight.data(), nullptr, 1e-5, kWidth, 3, y.data(), pool);
    same = x;
    layer_norm(same.data(), weight.data(), nullptr, 1e-5, kWidth, 3, same.data(), pool);
    EXPECT_EQ(same, y);
  });
}

TEST_F(KernelsElementwise, ALargeMeanLeavesTheVarianceItsDigits) {
  on_every_target([](std::mt19937_64& random) {
    constexpr int64_t kWidth = 576;
    std::vector<float> x = normal(kWidth, random), shifted, weight(kWidth, 1.0F);
    for (const float value : x) shifted.push_back(std::round(value * 64) / 64 + 1000);
    double mean = 0, variance = 0;
    for (const float value : shifted) mean += value / static_cast<double>(kWidth);
    for (const float value : shifted) {
      variance += (value - mean) * (value - mean) / static_cast<double>(kWidth);
    }
    ThreadPool pool(1);
    std::vector<float> y(kWidth);
    layer_norm(shifted.data(), weight.data(), nullptr, 0, kWidth, 1, y.data(), pool);
    for (size_t i = 0; i < y.size(); ++i) {
      // The mean itself is rounded to some 1e-4.
      EXPECT_NEAR(y[i], (shifted[i] - mean) / std::sqrt(variance), 5e-4);
    }
  });
}

double exact(Epilogue activation, double x) {
  switch (activation) {
    case Epilogue::gelu_tanh: {
      // x/2 (1 + tanh(u)) without the difference of close numbers.
      const double u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
      return x / (1 + std::exp(-2 * u));
    }
    case Epilogue::gelu_erf: return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    default: return x / (1 + std::exp(-x));
  }
}

TEST_F(KernelsElementwise, ActivationsAgreeWithDoublePrecision) {
  std::vector<float> x;
  for (double value = -12; value <= 12; value += 1.0 / 1024) x.push_back(static_cast<float>(value));
  for (const float value : {0.0F, 1e-30F, -1e-30F, 1e-6F, -1e-6F, 80.0F, -80.0F, 1e4F, -1e4F}) {
    x.push_back(value);
  }
  const int64_t width = static_cast<int64_t>(x.size());
  on_every_target([&](std::mt19937_64&) {
    for (const Epilogue activation : {Epilogue::gelu_tanh, Epilogue::gelu_erf, Epilogue::swiglu}) {
      std::vector<float> input = x;
      if (activation == Epilogue::swiglu) input.insert(input.end(), x.size(), 1.0F);
      ThreadPool pool(1);
      std::vector<float> y(x.size());
      activate(activation, input.data(), static_cast<int64_t>(input.size()), width, 1, y.data(),
               width, pool);
      for (size_t i = 0; i < x.size(); ++i) {
        const double wanted = exact(activation, x[i]);
        // The exponent of e is rounded: the further out, the fewer digits of an ever smaller
        // result.
        EXPECT_NEAR(y[i], wanted, 1e-6 * std::abs(wanted) + 1e-8)
            << "activation " << static_cast<int>(activation) << " of " << x[i];
      }
    }
  });
}

TEST_F(KernelsElementwise, ActivationsKeepToTheirRowsAndStrides) {
  on_every_target([](std::mt19937_64& random) {
    for (const int64_t width : kWidths) {
      constexpr int64_t kTokens = 3;
      const int64_t x_stride = 2 * width + 1, y_stride = width + 2;
      const std::vector<float> x = normal(kTokens * x_stride, random);
      std::vector<float> y(static_cast<size_t>(kTokens * y_stride), -7);
      ThreadPool pool(2);
      activate(Epilogue::swiglu, x.data(), x_stride, width, kTokens, y.data(), y_stride, pool);
      for (int64_t n = 0; n < kTokens; ++n) {
        for (int64_t i = 0; i < y_stride; ++i) {
          const float got = y[static_cast<size_t>(n * y_stride + i)];
          if (i >= width) {
            EXPECT_EQ(got, -7) << "behind a row of " << width;
            continue;
          }
          const float* row = x.data() + n * x_stride;
          const double wanted = exact(Epilogue::swiglu, row[i]) * row[width + i];
          EXPECT_NEAR(got, wanted, 1e-6 * std::abs(wanted) + 1e-8);
        }
      }
    }
    ThreadPool pool(1);
    float value = 0;
    EXPECT_THROW(activate(Epilogue::store, &value, 1, 1, 1, &value, 1, pool), UserError);
    EXPECT_THROW(activate(Epilogue::add, &value, 1, 1, 1, &value, 1, pool), UserError);
  });
}

TEST_F(KernelsElementwise, AddAddsEveryElementOnce) {
  on_every_target([](std::mt19937_64& random) {
    for (const int64_t count : {1, 15, 16, 1000, 100003}) {
      const std::vector<float> x = normal(count, random), y = normal(count, random);
      std::vector<float> sum = y;
      ThreadPool pool(3);
      add(x.data(), sum.data(), count, pool);
      for (size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(sum[i], y[i] + x[i]) << i;
    }
  });
}

// The definition, one number at a time.
uint16_t nearest_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t low = bits & 0xFFFF;
  uint32_t high = bits >> 16;
  if (low > 0x8000 || (low == 0x8000 && high % 2 == 1)) ++high;
  return static_cast<uint16_t>(high);
}

TEST_F(KernelsElementwise, Bf16IsTheNearestAndTiesGoToEven) {
  on_every_target([](std::mt19937_64& random) {
    std::vector<float> values = {0.0F,
                                 -0.0F,
                                 1.0F,
                                 kInfinity,
                                 -kInfinity,
                                 std::numeric_limits<float>::max(),
                                 std::numeric_limits<float>::denorm_min()};
    for (const uint32_t low : {0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      for (const uint32_t high : {0x3F80U, 0x3F81U, 0xC0FFU, 0x0000U, 0x807FU}) {
        values.push_back(std::bit_cast<float>(high << 16 | low));
      }
    }
    while (values.size() < 1003) {
      const float value = std::bit_cast<float>(static_cast<uint32_t>(random()));
      if (!std::isnan(value)) values.push_back(value);
    }
    const int64_t count = static_cast<int64_t>(values.size());
    std::vector<uint16_t> halves(values.size());
    to_bf16(values.data(), halves.data(), count);
    std::vector<float> rounded = values, back(values.size());
    round_to_bf16(rounded.data(), count);
    from_bf16(halves.data(), back.data(), count);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(halves[i], nearest_bf16(values[i])) << values[i];
      const uint32_t wide = static_cast<uint32_t>(halves[i]) << 16;
      ASSERT_EQ(std::bit_cast<uint32_t>(back[i]), wide) << values[i];
      ASSERT_EQ(std::bit_cast<uint32_t>(rounded[i]), wide) << values[i];
    }
  });
}

TEST_F(KernelsElementwise, NanStaysNanInBf16) {
  on_every_target([](std::mt19937_64&) {
    // Payloads that rounding would carry into the exponent or cut off.
    for (const uint32_t bits : {0x7FC00000U, 0x7F800001U, 0x7FFFFFFFU, 0xFF800001U, 0xFFFFFFFFU}) {
      for (const int64_t count : {1, 40}) {
        std::vector<float> values(static_cast<size_t>(count), std::bit_cast<float>(bits));
        std::vector<uint16_t> halves(values.size());
        to_bf16(values.data(), halves.data(), count);
        round_to_bf16(values.data(), count);
        for (size_t i = 0; i < values.size(); ++i) {
          EXPECT_TRUE(std::isnan(std::bit_cast<float>(static_cast<uint32_t>(halves[i]) << 16)));
          EXPECT_TRUE(std::isnan(values[i]));
        }
      }
    }
  });
}

TEST_F(KernelsElementwise, OneBadValueAnywhereIsNotFinite) {
  on_every_target([](std::mt19937_64& random) {
    EXPECT_TRUE(all_finite({}));
    for (const int64_t count : {1, 16, 67}) {
      std::vector<float> values = normal(count, random);
      values[0] = std::numeric_limits<float>::max();
      EXPECT_TRUE(all_finite(values));
      for (const float bad : {kNan, kInfinity, -kInfinity}) {
        for (size_t i = 0; i < values.size(); ++i) {
          std::vector<float> broken = values;
          broken[i] = bad;
          EXPECT_FALSE(all_finite(broken)) << bad << " at " << i << " of " << count;
        }
      }
    }
  });
}

}  // namespace
}  // namespace kvlab::kernels

#include <algorithm>
#include <cmath>
#include <random>

#include "kvlab/core/error.h"
#include "kvlab/results/run_comparison.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab {

namespace {

// Fewer blocks have too few different resamples: a percentile interval of them is too narrow.
constexpr size_t kFewestForBootstrap = 10;
constexpr double kConfidence = 0.95;

std::vector<double> logarithms(const std::vector<double>& values) {
  std::vector<double> logs;
  for (const double value : values) {
    KVLAB_CHECK(std::isfinite(value) && value > 0,
                "[results.unpaired_ratio] values must be positive, got ", value);
    logs.push_back(std::log(value));
  }
  KVLAB_CHECK(!logs.empty(), "[results.unpaired_ratio] there is no value");
  return logs;
}

// Counts on `random` alone, so that every standard library draws the same.
double resampled_mean(const std::vector<double>& values, std::mt19937_64& random) {
  double sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += values[random() % values.size()];
  return sum / static_cast<double>(values.size());
}

void add_bootstrap_interval(const std::vector<double>& a, const std::vector<double>& b,
                            uint64_t seed, int draws, ComparedRatio& result) {
  std::mt19937_64 random(seed);
  std::vector<double> differences;
  for (int draw = 0; draw < draws; ++draw) {
    const double mean_a = resampled_mean(a, random);
    differences.push_back(resampled_mean(b, random) - mean_a);
  }
  result.low = std::exp(quantile(differences, (1 - kConfidence) / 2));
  result.high = std::exp(quantile(differences, (1 + kConfidence) / 2));
}

// The standard error of a difference of two means, and its degrees of freedom.
struct WelchError {
  double error = 0, degrees = 0;
};

WelchError welch_error(const std::vector<double>& a, const std::vector<double>& b) {
  const auto squared_error = [](const std::vector<double>& values) {
    const double deviation = *standard_deviation(values);
    return deviation * deviation / static_cast<double>(values.size());
  };
  const double error_a = squared_error(a), error_b = squared_error(b);
  const double both = error_a + error_b;
  if (!(both > 0)) return {};
  return {std::sqrt(both), both * both / (error_a * error_a / static_cast<double>(a.size() - 1) +
                                          error_b * error_b / static_cast<double>(b.size() - 1))};
}

void add_welch_interval(const std::vector<double>& a, const std::vector<double>& b,
                        ComparedRatio& result) {
  const WelchError found = welch_error(a, b);
  const double half =
      found.error > 0
          ? student_t_quantile((1 + kConfidence) / 2, found.degrees) * found.error
          : 0;
  const double difference = std::log(result.ratio);
  result.low = std::exp(difference - half);
  result.high = std::exp(difference + half);
}

}  // namespace

ComparedRatio unpaired_ratio(const std::vector<double>& a, const std::vector<double>& b,
                             uint64_t seed, int draws) {
  const std::vector<double> logs_a = logarithms(a), logs_b = logarithms(b);
  ComparedRatio result;
  result.ratio = std::exp(mean(logs_b) - mean(logs_a));
  const size_t fewest = std::min(a.size(), b.size());
  if (fewest >= kFewestForBootstrap) {
    add_bootstrap_interval(logs_a, logs_b, seed, draws, result);
  } else if (fewest >= 2) {
    add_welch_interval(logs_a, logs_b, result);
  }
  return result;
}

std::optional<double> unpaired_t_test(const std::vector<double>& a, const std::vector<double>& b) {
  const std::vector<double> logs_a = logarithms(a), logs_b = logarithms(b);
  if (std::min(a.size(), b.size()) < 2) return {};
  const double difference = std::abs(mean(logs_b) - mean(logs_a));
  const WelchError found = welch_error(logs_a, logs_b);
  if (!(found.error > 0)) return difference == 0 ? 1.0 : 0.0;
  return std::min(1.0, 2 * student_t_probability(-difference / found.error, found.degrees));
}

}  // namespace kvlab

#include "kvlab/runtime/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

void check_finite(std::span<const double> values, const char* operation) {
  KVLAB_CHECK(!values.empty(), "[statistics.", operation, "] needs at least one value, got none");
  for (const double value : values)
    KVLAB_CHECK(std::isfinite(value), "[statistics.", operation,
                "] needs finite values, got ", value);
}

void check_positive(std::span<const double> values, const char* operation) {
  check_finite(values, operation);
  for (const double value : values)
    KVLAB_CHECK(value > 0, "[statistics.", operation, "] needs positive values, got ", value);
}

double mean_of_logarithms(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += std::log(value);
  return sum / static_cast<double>(values.size());
}

// The continued fraction of the incomplete beta function (DLMF 8.17.22), by the modified Lentz
// method. Converges fast for x below (a + 1) / (a + b + 2).
double beta_continued_fraction(double x, double a, double b) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double value) { return std::abs(value) < kTiny ? kTiny : value; };
  double numerator = 1;
  double denominator = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double fraction = denominator;
  constexpr int kMostTerms = 100'000;
  for (int m = 1; m <= kMostTerms; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    denominator = 1 / away_from_zero(1 + even * denominator);
    numerator = away_from_zero(1 + even / numerator);
    fraction *= denominator * numerator;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    denominator = 1 / away_from_zero(1 + odd * denominator);
    numerator = away_from_zero(1 + odd / numerator);
    const double change = denominator * numerator;
    fraction *= change;
    if (std::abs(change - 1) < 4 * std::numeric_limits<double>::epsilon()) break;
  }
  return fraction;
}

// I_x(a, b). `complement` is 1 - x, given by the caller because subtracting would lose digits.
double regularised_beta(double x, double complement, double a, double b) {
  if (x <= 0) return 0;
  if (complement <= 0) return 1;
  const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) +
                                a * std::log(x) + b * std::log(complement));
  if (x < (a + 1) / (a + b + 2)) return front * beta_continued_fraction(x, a, b) / a;
  return 1 - front * beta_continued_fraction(complement, b, a) / b;
}

// P(T > t) for t >= 0, with full relative precision far out.
double upper_tail(double t, double degrees) {
  if (std::isinf(t)) return 0;
  const double square = t * t;
  return 0.5 * regularised_beta(degrees / (degrees + square), square / (degrees + square),
                                0.5 * degrees, 0.5);
}

void check_degrees(double degrees, const char* operation) {
  KVLAB_CHECK(std::isfinite(degrees) && degrees > 0, "[statistics.", operation,
              "] degrees of freedom must be positive and finite, got ", degrees);
}

}  // namespace

double quantile(std::span<const double> values, double probability) {
  KVLAB_CHECK(!values.empty(), "[statistics.quantile] needs at least one value, got none");
  KVLAB_CHECK(probability >= 0 && probability <= 1,
              "[statistics.quantile] probability must be from 0 to 1, got ", probability);
  std::vector<double> sorted(values.begin(), values.end());
  for (const double value : sorted)
    KVLAB_CHECK(!std::isnan(value), "[statistics.quantile] values must not be NaN");
  std::sort(sorted.begin(), sorted.end());
  const double place = probability * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const double fraction = place - static_cast<double>(below);
  // Equal neighbours are returned as they are: infinity minus infinity would be NaN.
  if (fraction == 0 || sorted[below] == sorted[below + 1]) return sorted[below];
  return sorted[below] + fraction * (sorted[below + 1] - sorted[below]);
}

double median(std::span<const double> values) { return quantile(values, 0.5); }

double interquartile_range(std::span<const double> values) {
  return quantile(values, 0.75) - quantile(values, 0.25);
}

double mean(std::span<const double> values) {
  check_finite(values, "mean");
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

std::optional<double> standard_deviation(std::span<const double> values) {
  check_finite(values, "standard_deviation");
  if (values.size() < 2) return std::nullopt;
  const double centre = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - centre) * (value - centre);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double geometric_mean(std::span<const double> values) {
  check_positive(values, "geometric_mean");
  return std::exp(mean_of_logarithms(values));
}

bool RatioInterval::excludes(double value) const {
  return low && high && (value < *low || value > *high);
}

RatioInterval ratio_t_interval(std::span<const double> numerator,
                               std::span<const double> denominator, double confidence) {
  KVLAB_CHECK_EQ(numerator.size(), denominator.size(),
                 "[statistics.ratio_t_interval] both arms need one value per block");
  check_positive(numerator, "ratio_t_interval");
  check_positive(denominator, "ratio_t_interval");
  KVLAB_CHECK(confidence > 0 && confidence < 1,
              "[statistics.ratio_t_interval] confidence must be between 0 and 1, got ", confidence);
  std::vector<double> logarithms(numerator.size());
  for (std::size_t i = 0; i < logarithms.size(); ++i)
    logarithms[i] = std::log(numerator[i]) - std::log(denominator[i]);

  RatioInterval result;
  result.n = logarithms.size();
  result.confidence = confidence;
  const double centre = mean(logarithms);
  result.ratio = std::exp(centre);
  if (const auto deviation = standard_deviation(logarithms)) {
    const auto blocks = static_cast<double>(result.n);
    const double reach =
        student_t_quantile(0.5 + 0.5 * confidence, blocks - 1) * *deviation / std::sqrt(blocks);
    result.low = std::exp(centre - reach);
    result.high = std::exp(centre + reach);
  }
  return result;
}

double student_t_probability(double t, double degrees) {
  check_degrees(degrees, "student_t_probability");
  KVLAB_CHECK(!std::isnan(t), "[statistics.student_t_probability] t must not be NaN");
  return t < 0 ? upper_tail(-t, degrees) : 1 - upper_tail(t, degrees);
}

double student_t_quantile(double probability, double degrees) {
  check_degrees(degrees, "student_t_quantile");
  KVLAB_CHECK(probability > 0 && probability < 1,
              "[statistics.student_t_quantile] probability must be between 0 and 1, got ",
              probability);
  if (probability == 0.5) return 0;
  const double tail = probability < 0.5 ? probability : 1 - probability;
  // The tail falls with t: double the bracket, then halve it until its ends are neighbours.
  double low = 0;
  double high = 1;
  while (std::isfinite(high) && upper_tail(high, degrees) > tail) {
    low = high;
    high *= 2;
  }
  for (int i = 0; i < 2000; ++i) {
    const double middle = low + 0.5 * (high - low);
    if (middle <= low || middle >= high) break;
    (upper_tail(middle, degrees) > tail ? low : high) = middle;
  }
  const double t = low + 0.5 * (high - low);
  return probability < 0.5 ? -t : t;
}

}  // namespace kvlab

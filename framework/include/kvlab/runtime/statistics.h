// Summary statistics of measured samples: quantiles, spread, and the ratio of two arms with its
// interval. Values carry the unit of their input; ratios have none.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace kvlab {

/// Returns the `probability` quantile of `values` in the unit of `values`, with linear
/// interpolation between order statistics (type 7 of Hyndman and Fan, the default of R and NumPy).
/// `values` need not be sorted; one value is its own quantile. Throws UserError where `values` is
/// empty or holds NaN, or `probability` is outside 0 to 1.
double quantile(std::span<const double> values, double probability);

/// Returns the 0.5 quantile in the unit of `values`. Throws UserError as `quantile` does.
double median(std::span<const double> values);

/// Returns the 0.75 minus the 0.25 quantile in the unit of `values`; 0 for one value. Throws
/// UserError as `quantile` does.
double interquartile_range(std::span<const double> values);

/// Returns the arithmetic mean in the unit of `values`. Throws UserError where `values` is empty or
/// not finite.
double mean(std::span<const double> values);

/// Returns the sample standard deviation (divisor n - 1) in the unit of `values`, or nothing for
/// one value. Throws UserError where `values` is empty or not finite.
std::optional<double> standard_deviation(std::span<const double> values);

/// Returns the geometric mean in the unit of `values`. Throws UserError where `values` is empty or
/// holds anything but positive finite numbers.
double geometric_mean(std::span<const double> values);

/// Geometric mean of the per-block ratios of two arms, and where the true ratio lies.
struct RatioInterval {
  double ratio = 1.0;         ///< numerator / denominator; no unit
  std::optional<double> low;  ///< absent where one block gives no spread
  std::optional<double> high;
  double confidence = 0.95;   ///< of the two-sided interval
  std::size_t n = 0;          ///< blocks

  /// True where an interval exists and does not contain `value`. A difference without this is
  /// "not distinguishable".
  bool excludes(double value = 1.0) const;
};

/// Compares paired samples: `numerator[i]` and `denominator[i]` come from the same block and have
/// the same unit. The interval is the t-interval of the logarithms of the ratios, so it is
/// symmetric in which arm is on top. With one block the ratio stands alone and `low` and `high` are
/// absent. Throws UserError where the inputs are empty, differ in length or hold anything but
/// positive finite numbers, or `confidence` is not strictly between 0 and 1.
RatioInterval ratio_t_interval(std::span<const double> numerator,
                               std::span<const double> denominator, double confidence = 0.95);

/// Returns the probability that a Student t variable with `degrees` degrees of freedom is at most
/// `t`. Throws UserError where `degrees` is not positive and finite or `t` is NaN.
double student_t_probability(double t, double degrees);

/// Returns the value a Student t variable with `degrees` degrees of freedom stays below with
/// `probability`: `student_t_quantile(0.975, 4)` is 2.7764. Throws UserError where `probability` is
/// not strictly between 0 and 1 or `degrees` is not positive and finite.
double student_t_quantile(double probability, double degrees);

}  // namespace kvlab

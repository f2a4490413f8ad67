// Seeded bootstrap intervals, and what stands in for them where items are few. The random numbers are
// the same on every machine: the generator is the standard's mt19937_64, and indices are drawn from it
// without the standard's distributions, whose results differ between libraries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "kvlab/runtime/statistics.h"

namespace kvlab {

/// How the ends are read off the sorted draws.
enum class BootstrapMethod {
  percentile,  ///< the quantiles of the draws
  bca          ///< bias-corrected and accelerated (Efron 1987): better where draws are skewed
};

struct BootstrapOptions {
  std::size_t draws = 10'000;
  std::uint64_t seed = 1;
  double confidence = 0.95;
  BootstrapMethod method = BootstrapMethod::bca;
};

/// Items from which on the bootstrap is used for sums: below, its interval is too short.
inline constexpr std::size_t kBootstrapItems = 10;

/// A statistic and where its true value lies, in the unit of the statistic.
struct BootstrapInterval {
  double estimate = 0;         ///< of the data as measured
  std::optional<double> low;   ///< absent where there is one item
  std::optional<double> high;
  double confidence = 0.95;
  std::size_t n = 0;           ///< items
  /// Two-sided: twice the smaller share of draws at or beyond the null value, at least
  /// 2 / (draws + 1); of a t-interval, from its t. Absent where no null value was given, or there is
  /// one item.
  std::optional<double> p;

  /// True where an interval exists and does not contain `value`.
  bool excludes(double value) const { return low && high && (*low > value || *high < value); }
};

/// Computes a statistic of the items with these indices, an index as often as it was drawn.
using ItemStatistic = std::function<double(std::span<const std::size_t> items)>;

/// Draws `n` of `n` items with replacement, `options.draws` times. Throws UserError where there is
/// no item or no draw, the confidence is not strictly between 0 and 1, or a statistic is not
/// finite.
BootstrapInterval bootstrap(std::size_t n, const ItemStatistic& statistic,
                            const BootstrapOptions& options = {},
                            std::optional<double> null_value = std::nullopt);

/// Geometric mean of `numerator[i] / denominator[i]`, both of block i. Throws UserError as
/// `ratio_t_interval` does.
RatioInterval ratio_bootstrap(std::span<const double> numerator,
                              std::span<const double> denominator,
                              const BootstrapOptions& options = {});

/// Mean of `first[i] - second[i]`, both of item i, in the unit of the values. Throws UserError
/// where the lists are empty, differ in length or are not finite.
BootstrapInterval mean_difference_bootstrap(std::span<const double> first,
                                            std::span<const double> second,
                                            const BootstrapOptions& options = {});

/// Sum of `numerator` over sum of `denominator`, drawn by item: losses and tokens of documents,
/// where a long document counts for more. Throws UserError where the lists are empty or differ in
/// length, or a denominator is not positive and finite.
BootstrapInterval ratio_of_sums_bootstrap(std::span<const double> numerator,
                                          std::span<const double> denominator,
                                          const BootstrapOptions& options = {},
                                          std::optional<double> null_value = std::nullopt);

/// The same ratio with its t-interval: the standard error is that of the ratio estimator, from what
/// each numerator is beside its denominator's share (Cochran 1977, section 2.11). With equal
/// denominators it is the t-interval of the items' own ratios. Throws UserError as
/// `ratio_of_sums_bootstrap`.
BootstrapInterval ratio_of_sums_t_interval(std::span<const double> numerator,
                                           std::span<const double> denominator,
                                           double confidence = 0.95,
                                           std::optional<double> null_value = std::nullopt);

/// `ratio_of_sums_t_interval` below `kBootstrapItems` items, else `ratio_of_sums_bootstrap`.
BootstrapInterval ratio_of_sums_interval(std::span<const double> numerator,
                                         std::span<const double> denominator,
                                         const BootstrapOptions& options = {},
                                         std::optional<double> null_value = std::nullopt);

/// What a robust comparison of two arms finds.
struct RobustRatio {
  RatioInterval interval;
  std::optional<double> p;  ///< of "both are the same"; absent where there is one block
};

/// The middle half of the per-block log-ratios, averaged (the quarter at either end is left out),
/// with its percentile interval: a few blocks that something disturbed do not move it. Throws
/// UserError as `ratio_t_interval` does.
RobustRatio midmean_ratio_bootstrap(std::span<const double> numerator,
                                    std::span<const double> denominator,
                                    const BootstrapOptions& options = {});

/// Returns the probability that a standard normal variable is at most `z`.
double normal_probability(double z);

/// Returns the value a standard normal variable stays below with `probability`:
/// `normal_quantile(0.975)` is 1.95996. Throws UserError where `probability` is not strictly
/// between 0 and 1.
double normal_quantile(double probability);

}  // namespace kvlab

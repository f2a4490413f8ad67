// Many comparisons in one report: the more are made, the likelier one looks like a difference.
#pragma once

#include <optional>
#include <span>
#include <vector>

namespace kvlab {

/// Adjusts the p-values of a family of tests by Holm's step-down method (1979), in their order. An
/// adjusted value below 0.05 is a finding, with at most 5 % chance that any finding of the family
/// is wrong. Throws UserError where one is not from 0 to 1.
std::vector<double> holm_adjusted(std::span<const double> p_values);

/// The two-sided p-value of "both arms are the same": a t-test of the per-block log-ratios. Absent
/// for one block. Throws UserError as `ratio_t_interval` does.
std::optional<double> log_ratio_t_test(std::span<const double> numerator,
                                       std::span<const double> denominator);

}  // namespace kvlab

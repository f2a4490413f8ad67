#include "kvlab/runtime/multiple_tests.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kvlab/core/error.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab {

std::vector<double> holm_adjusted(std::span<const double> p_values) {
  for (const double p : p_values) {
    KVLAB_CHECK(p >= 0 && p <= 1, "[statistics.holm_adjusted] a p-value is from 0 to 1, got ", p);
  }
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return p_values[a] < p_values[b]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto left = static_cast<double>(order.size() - i);
    largest = std::max(largest, std::min(1.0, left * p_values[order[i]]));
    adjusted[order[i]] = largest;
  }
  return adjusted;
}

std::optional<double> log_ratio_t_test(std::span<const double> numerator,
                                       std::span<const double> denominator) {
  (void)ratio_t_interval(numerator, denominator);  // refuses what cannot be compared
  std::vector<double> logarithms(numerator.size());
  for (std::size_t i = 0; i < logarithms.size(); ++i) {
    logarithms[i] = std::log(numerator[i]) - std::log(denominator[i]);
  }
  const auto deviation = standard_deviation(logarithms);
  if (!deviation) return std::nullopt;
  const double centre = mean(logarithms);
  if (*deviation == 0) return centre == 0 ? 1.0 : 0.0;
  const auto blocks = static_cast<double>(logarithms.size());
  const double t = std::abs(centre) * std::sqrt(blocks) / *deviation;
  return 2 * student_t_probability(-t, blocks - 1);
}

}  // namespace kvlab

#include "kvlab/runtime/rates.h"

#include <algorithm>
#include <cmath>

#include "kvlab/core/error.h"
#include "kvlab/runtime/bootstrap.h"

namespace kvlab {

Rate wilson_interval(std::int64_t successes, std::int64_t trials, double confidence) {
  KVLAB_CHECK(trials > 0, "[statistics.wilson_interval] needs at least one trial, got ", trials);
  KVLAB_CHECK(successes >= 0 && successes <= trials,
              "[statistics.wilson_interval] successes must be from 0 to ", trials, ", got ",
              successes);
  KVLAB_CHECK(confidence > 0 && confidence < 1,
              "[statistics.wilson_interval] confidence must be between 0 and 1, got ", confidence);
  const auto n = static_cast<double>(trials);
  const double z = normal_quantile(0.5 + 0.5 * confidence);
  Rate found;
  found.rate = static_cast<double>(successes) / n;
  found.confidence = confidence;
  found.n = trials;
  const double square = z * z / n;
  const double centre = (found.rate + 0.5 * square) / (1 + square);
  const double reach =
      z * std::sqrt(found.rate * (1 - found.rate) / n + 0.25 * square / n) / (1 + square);
  // Rounding must not leave 0 or 1 outside.
  found.low = successes == 0 ? 0 : std::max(0.0, centre - reach);
  found.high = successes == trials ? 1 : std::min(1.0, centre + reach);
  return found;
}

}  // namespace kvlab

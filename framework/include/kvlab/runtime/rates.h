// How often something happened, and where its true rate lies.
#pragma once

#include <cstdint>

namespace kvlab {

/// A share with its interval; no unit.
struct Rate {
  double rate = 0;
  double low = 0, high = 1;
  double confidence = 0.95;
  std::int64_t n = 0;  ///< trials
};

/// Wilson's score interval (1927), without continuity correction: it holds for few trials and for
/// rates near 0 and 1, where the usual one has no width. Throws UserError where there is no trial,
/// `successes` is not from 0 to `trials`, or `confidence` is not strictly between 0 and 1.
Rate wilson_interval(std::int64_t successes, std::int64_t trials, double confidence = 0.95);

}  // namespace kvlab

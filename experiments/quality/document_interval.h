// Intervals over documents: the only place where this experiment meets statistics beyond the
// framework's quantiles.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace kvlab::experiments::quality_kind {

/// A mean per token with its 95 % interval over documents.
struct MeanInterval {
  double value = 0;
  std::optional<double> low, high;  ///< absent for one document
  double p = 1;                     ///< two-sided, of the true mean being zero
  int64_t n = 0;                    ///< documents

  bool excludes(double other) const { return low && (*low > other || *high < other); }
};

/// Fewer documents than this get a t-interval: a bootstrap of so few is too narrow.
inline constexpr size_t kFewestForBootstrap = 10;
inline constexpr int kBootstrapDraws = 10000;

/// Sum of `sums` over sum of `counts`, one of each per document. The interval is a percentile
/// bootstrap of the ratio of sums, or the t-interval of the documents' own means where they are
/// few. Tokens of one document depend on each other, documents do not: so documents are drawn.
MeanInterval document_interval(std::span<const double> sums, std::span<const double> counts,
                               uint64_t seed);

/// A share of tokens with its 95 % Wilson interval.
struct RateInterval {
  double rate = 0, low = 0, high = 0;
  int64_t n = 0;
};
RateInterval wilson_rate(int64_t hits, int64_t n);

/// p-values adjusted for their number after Holm (1979), in the order given.
std::vector<double> holm_adjusted(std::span<const double> p);

}  // namespace kvlab::experiments::quality_kind

#include "document_interval.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kvlab/core/error.h"
#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments::quality_kind {

namespace {

// The 0.975 quantile of a standard normal variable.
constexpr double kNormal975 = 1.959963984540054;

double total(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

void add_t_interval(std::span<const double> sums, std::span<const double> counts,
                    MeanInterval& interval) {
  std::vector<double> means;
  for (size_t i = 0; i < sums.size(); ++i) means.push_back(sums[i] / counts[i]);
  const auto deviation = standard_deviation(means);
  if (!deviation) return;
  const auto n = static_cast<double>(means.size());
  const double error = *deviation / std::sqrt(n);
  const double half = student_t_quantile(0.975, n - 1) * error;
  interval.low = interval.value - half;
  interval.high = interval.value + half;
  if (error > 0) {
    interval.p = 2 * student_t_probability(-std::abs(interval.value) / error, n - 1);
  } else {
    interval.p = interval.value == 0 ? 1 : 0;
  }
}

void add_bootstrap_interval(std::span<const double> sums, std::span<const double> counts,
                            uint64_t seed, MeanInterval& interval) {
  std::mt19937_64 stream(seed);
  std::vector<double> draws;
  draws.reserve(kBootstrapDraws);
  int64_t below = 0, above = 0;
  for (int draw = 0; draw < kBootstrapDraws; ++draw) {
    double sum = 0, count = 0;
    for (size_t i = 0; i < sums.size(); ++i) {
      const auto chosen = static_cast<size_t>(stream() % sums.size());
      sum += sums[chosen];
      count += counts[chosen];
    }
    draws.push_back(sum / count);
    below += draws.back() <= 0 ? 1 : 0;
    above += draws.back() >= 0 ? 1 : 0;
  }
  interval.low = quantile(draws, 0.025);
  interval.high = quantile(draws, 0.975);
  // One more than counted: a finite number of draws never shows that something cannot be.
  interval.p = std::min(1.0, 2.0 * static_cast<double>(std::min(below, above) + 1) /
                                 static_cast<double>(kBootstrapDraws + 1));
}

}  // namespace

MeanInterval document_interval(std::span<const double> sums, std::span<const double> counts,
                               uint64_t seed) {
  KVLAB_INVARIANT(!sums.empty() && sums.size() == counts.size(),
                  "[experiments.quality.document_interval] ", sums.size(), " sums and ",
                  counts.size(), " counts");
  MeanInterval interval;
  interval.n = static_cast<int64_t>(sums.size());
  interval.value = total(sums) / total(counts);
  if (sums.size() < kFewestForBootstrap) {
    add_t_interval(sums, counts, interval);
  } else {
    add_bootstrap_interval(sums, counts, seed, interval);
  }
  return interval;
}

RateInterval wilson_rate(int64_t hits, int64_t n) {
  const auto count = static_cast<double>(n);
  const double rate = static_cast<double>(hits) / count;
  const double z2 = kNormal975 * kNormal975;
  const double centre = (rate + z2 / (2 * count)) / (1 + z2 / count);
  const double half = kNormal975 / (1 + z2 / count) *
                      std::sqrt(rate * (1 - rate) / count + z2 / (4 * count * count));
  return {rate, std::max(0.0, centre - half), std::min(1.0, centre + half), n};
}

std::vector<double> holm_adjusted(std::span<const double> p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const double raised = p[order[rank]] * static_cast<double>(p.size() - rank);
    largest = std::max(largest, std::min(1.0, raised));
    adjusted[order[rank]] = largest;
  }
  return adjusted;
}

}  // namespace kvlab::experiments::quality_kind

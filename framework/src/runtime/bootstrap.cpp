#include "kvlab/runtime/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

class IndexDraws {
 public:
  IndexDraws(std::uint64_t seed, std::size_t n) : random_(seed), n_(n) {}

  // Even to within n / 2^64.
  std::size_t next() { return random_() % n_; }

 private:
  std::mt19937_64 random_;
  std::size_t n_;
};

void check_options(std::size_t n, const BootstrapOptions& options) {
  KVLAB_CHECK(n > 0, "[statistics.bootstrap] needs at least one item, got none");
  KVLAB_CHECK(options.draws > 0, "[statistics.bootstrap] needs at least one draw, got none");
  KVLAB_CHECK(options.confidence > 0 && options.confidence < 1,
              "[statistics.bootstrap] confidence must be between 0 and 1, got ",
              options.confidence);
}

void check_paired(std::span<const double> first, std::span<const double> second, bool positive,
                  const char* operation) {
  KVLAB_CHECK_EQ(first.size(), second.size(), "[statistics.", operation,
                 "] both lists need one value per item");
  KVLAB_CHECK(!first.empty(), "[statistics.", operation, "] needs at least one item, got none");
  for (const auto values : {first, second}) {
    for (const double value : values) {
      KVLAB_CHECK(std::isfinite(value) && (!positive || value > 0), "[statistics.", operation,
                  "] needs ", positive ? "positive " : "", "finite values, got ", value);
    }
  }
}

void check_sums(std::span<const double> numerator, std::span<const double> denominator,
                const char* operation) {
  check_paired(numerator, denominator, false, operation);
  for (const double value : denominator) {
    KVLAB_CHECK(value > 0, "[statistics.", operation, "] needs positive denominators, got ", value);
  }
}

std::vector<double> log_ratios(std::span<const double> numerator,
                               std::span<const double> denominator) {
  std::vector<double> ratios(numerator.size());
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    ratios[i] = std::log(numerator[i]) - std::log(denominator[i]);
  }
  return ratios;
}

// Twice the smaller tail. Adding one to both counts the data themselves as a draw, so that no p is
// 0 for want of draws.
double two_sided_p(const std::vector<double>& draws, double null_value) {
  std::size_t below = 1, above = 1;
  for (const double draw : draws) {
    below += draw <= null_value ? 1 : 0;
    above += draw >= null_value ? 1 : 0;
  }
  return std::min(1.0, 2.0 * static_cast<double>(std::min(below, above)) /
                           static_cast<double>(draws.size() + 1));
}

// The probabilities at which BCa reads the sorted draws.
std::pair<double, double> bca_probabilities(const std::vector<double>& draws, double estimate,
                                            std::size_t n, const ItemStatistic& statistic,
                                            double confidence) {
  double below = 0;
  for (const double draw : draws) below += draw < estimate ? 1 : draw == estimate ? 0.5 : 0;
  const auto count = static_cast<double>(draws.size());
  // All draws on one side would be infinitely many standard deviations.
  const double share = std::clamp(below / count, 0.5 / count, 1 - 0.5 / count);
  const double bias = normal_quantile(share);

  std::vector<double> without(n);
  std::vector<std::size_t> items(n - 1);
  std::iota(items.begin(), items.end(), std::size_t{1});
  for (std::size_t left_out = 0; left_out < n; ++left_out) {
    if (left_out > 0) items[left_out - 1] = left_out - 1;
    without[left_out] = statistic(items);
  }
  const double centre = mean(without);
  double squares = 0, cubes = 0;
  for (const double value : without) {
    const double distance = centre - value;
    squares += distance * distance;
    cubes += distance * distance * distance;
  }
  const double acceleration = squares > 0 ? cubes / (6 * std::pow(squares, 1.5)) : 0;
  const auto probability = [&](double tail) {
    const double z = bias + normal_quantile(tail);
    return normal_probability(bias + z / (1 - acceleration * z));
  };
  const double tail = 0.5 * (1 - confidence);
  return {probability(tail), probability(1 - tail)};
}

RatioInterval as_ratio(const BootstrapInterval& logarithms) {
  RatioInterval ratio;
  ratio.ratio = std::exp(logarithms.estimate);
  if (logarithms.low) ratio.low = std::exp(*logarithms.low);
  if (logarithms.high) ratio.high = std::exp(*logarithms.high);
  ratio.confidence = logarithms.confidence;
  ratio.n = logarithms.n;
  return ratio;
}

BootstrapInterval read_off(std::vector<double> draws, BootstrapInterval result,
                           std::pair<double, double> probabilities,
                           std::optional<double> null_value) {
  if (null_value) result.p = two_sided_p(draws, *null_value);
  std::sort(draws.begin(), draws.end());
  result.low = quantile(draws, probabilities.first);
  result.high = quantile(draws, probabilities.second);
  return result;
}

// Counts of the sorted values instead of sorting each draw: ten thousand draws take milliseconds.
double midmean_of_counts(const std::vector<double>& sorted, const std::vector<int>& counts) {
  const auto n = static_cast<long>(sorted.size());
  const long cut = n / 4;
  double sum = 0;
  long passed = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    const long from = std::max(passed, cut);
    passed += counts[i];
    const long to = std::min(passed, n - cut);
    if (to > from) sum += static_cast<double>(to - from) * sorted[i];
  }
  return sum / static_cast<double>(n - 2 * cut);
}

}  // namespace

BootstrapInterval bootstrap(std::size_t n, const ItemStatistic& statistic,
                            const BootstrapOptions& options, std::optional<double> null_value) {
  check_options(n, options);
  std::vector<std::size_t> items(n);
  std::iota(items.begin(), items.end(), std::size_t{0});
  const auto value_of = [&](std::span<const std::size_t> drawn) {
    const double value = statistic(drawn);
    KVLAB_CHECK(std::isfinite(value), "[statistics.bootstrap] a statistic must be finite, got ",
                value);
    return value;
  };
  BootstrapInterval result;
  result.estimate = value_of(items);
  result.confidence = options.confidence;
  result.n = n;
  if (n == 1) return result;
  IndexDraws random(options.seed, n);
  std::vector<double> draws(options.draws);
  for (double& draw : draws) {
    for (std::size_t& item : items) item = random.next();
    draw = value_of(items);
  }
  const double tail = 0.5 * (1 - options.confidence);
  std::pair<double, double> probabilities{tail, 1 - tail};
  if (options.method == BootstrapMethod::bca) {
    probabilities =
        bca_probabilities(draws, result.estimate, n, statistic, options.confidence);
  }
  return read_off(std::move(draws), result, probabilities, null_value);
}

RatioInterval ratio_bootstrap(std::span<const double> numerator,
                              std::span<const double> denominator,
                              const BootstrapOptions& options) {
  check_paired(numerator, denominator, true, "ratio_bootstrap");
  const std::vector<double> ratios = log_ratios(numerator, denominator);
  return as_ratio(bootstrap(
      ratios.size(),
      [&](std::span<const std::size_t> items) {
        double sum = 0;
        for (const std::size_t item : items) sum += ratios[item];
        return sum / static_cast<double>(items.size());
      },
      options));
}

BootstrapInterval mean_difference_bootstrap(std::span<const double> first,
                                            std::span<const double> second,
                                            const BootstrapOptions& options) {
  check_paired(first, second, false, "mean_difference_bootstrap");
  return bootstrap(
      first.size(),
      [&](std::span<const std::size_t> items) {
        double sum = 0;
        for (const std::size_t item : items) sum += first[item] - second[item];
        return sum / static_cast<double>(items.size());
      },
      options, 0.0);
}

BootstrapInterval ratio_of_sums_bootstrap(std::span<const double> numerator,
                                          std::span<const double> denominator,
                                          const BootstrapOptions& options,
                                          std::optional<double> null_value) {
  check_sums(numerator, denominator, "ratio_of_sums_bootstrap");
  return bootstrap(
      numerator.size(),
      [&](std::span<const std::size_t> items) {
        double above = 0, below = 0;
        for (const std::size_t item : items) {
          above += numerator[item];
          below += denominator[item];
        }
        return above / below;
      },
      options, null_value);
}

BootstrapInterval ratio_of_sums_t_interval(std::span<const double> numerator,
                                           std::span<const double> denominator, double confidence,
                                           std::optional<double> null_value) {
  check_sums(numerator, denominator, "ratio_of_sums_t_interval");
  KVLAB_CHECK(confidence > 0 && confidence < 1,
              "[statistics.ratio_of_sums_t_interval] confidence must be between 0 and 1, got ",
              confidence);
  const double below = std::accumulate(denominator.begin(), denominator.end(), 0.0);
  BootstrapInterval result;
  result.estimate = std::accumulate(numerator.begin(), numerator.end(), 0.0) / below;
  result.confidence = confidence;
  result.n = numerator.size();
  if (result.n == 1) return result;
  double squares = 0;
  for (std::size_t i = 0; i < result.n; ++i) {
    const double residual = numerator[i] - result.estimate * denominator[i];
    squares += residual * residual;
  }
  const auto n = static_cast<double>(result.n);
  const double error = std::sqrt(n * squares / (n - 1)) / below;
  const double reach = student_t_quantile(0.5 + 0.5 * confidence, n - 1) * error;
  result.low = result.estimate - reach;
  result.high = result.estimate + reach;
  if (!null_value) return result;
  const double distance = std::abs(result.estimate - *null_value);
  if (error > 0) {
    result.p = 2 * student_t_probability(-distance / error, n - 1);
  } else {
    result.p = distance == 0 ? 1 : 0;
  }
  return result;
}

BootstrapInterval ratio_of_sums_interval(std::span<const double> numerator,
                                         std::span<const double> denominator,
                                         const BootstrapOptions& options,
                                         std::optional<double> null_value) {
  return numerator.size() < kBootstrapItems
             ? ratio_of_sums_t_interval(numerator, denominator, options.confidence, null_value)
             : ratio_of_sums_bootstrap(numerator, denominator, options, null_value);
}

RobustRatio midmean_ratio_bootstrap(std::span<const double> numerator,
                                    std::span<const double> denominator,
                                    const BootstrapOptions& options) {
  check_paired(numerator, denominator, true, "midmean_ratio_bootstrap");
  std::vector<double> sorted = log_ratios(numerator, denominator);
  check_options(sorted.size(), options);
  std::sort(sorted.begin(), sorted.end());
  std::vector<int> counts(sorted.size(), 1);
  BootstrapInterval result;
  result.estimate = midmean_of_counts(sorted, counts);
  result.confidence = options.confidence;
  result.n = sorted.size();
  if (sorted.size() == 1) return {as_ratio(result), std::nullopt};
  IndexDraws random(options.seed, sorted.size());
  std::vector<double> draws(options.draws);
  for (double& draw : draws) {
    std::fill(counts.begin(), counts.end(), 0);
    for (std::size_t i = 0; i < sorted.size(); ++i) ++counts[random.next()];
    draw = midmean_of_counts(sorted, counts);
  }
  const double tail = 0.5 * (1 - options.confidence);
  result = read_off(std::move(draws), result, {tail, 1 - tail}, 0.0);
  return {as_ratio(result), result.p};
}

double normal_probability(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

double normal_quantile(double probability) {
  KVLAB_CHECK(probability > 0 && probability < 1,
              "[statistics.normal_quantile] probability must be between 0 and 1, got ",
              probability);
  if (probability == 0.5) return 0;
  // The upper tail is computed without cancellation, so it is the one that is searched.
  const double tail = std::min(probability, 1 - probability);
  double low = 0, high = 40;
  for (int i = 0; i < 200; ++i) {
    const double middle = low + 0.5 * (high - low);
    if (middle <= low || middle >= high) break;
    (normal_probability(-middle) > tail ? low : high) = middle;
  }
  const double z = low + 0.5 * (high - low);
  return probability < 0.5 ? -z : z;
}

}  // namespace kvlab

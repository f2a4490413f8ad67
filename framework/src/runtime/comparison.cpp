#include "kvlab/runtime/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kvlab/core/error.h"
#include "kvlab/runtime/bootstrap.h"
#include "kvlab/runtime/multiple_tests.h"

namespace kvlab {

namespace {

// A share of the samples, above which the figures are the machine's and not the arm's.
constexpr double kMostContended = 0.5;

constexpr double kWidestFactor = 100;

// The smallest p that d draws can show is 2 / d: times the number of comparisons it has to stay
// below 0.05, or nothing could ever be found in a large table.
constexpr std::size_t kDrawsPerComparison = 100;

RobustRatio measure(const PairedSpeeds& speeds, const ComparisonOptions& options) {
  if (speeds.arm.size() < kBootstrapBlocks) {
    return {ratio_t_interval(speeds.arm, speeds.control, options.confidence),
            log_ratio_t_test(speeds.arm, speeds.control)};
  }
  BootstrapOptions drawing;
  drawing.draws = options.draws;
  drawing.seed = options.seed;
  drawing.confidence = options.confidence;
  return midmean_ratio_bootstrap(speeds.arm, speeds.control, drawing);
}

void judge(Comparison& found, const PairedSpeeds& speeds, const std::optional<RatioInterval>& noise,
           double confidence) {
  const std::size_t samples = speeds.arm.size() + speeds.control.size();
  if (static_cast<double>(speeds.contended) > kMostContended * static_cast<double>(samples)) {
    found.verdict = Verdict::refused;
    found.reason = fmt::format("{} of {} samples were disturbed", speeds.contended, samples);
    return;
  }
  if (!found.ratio.low) {
    found.verdict = Verdict::refused;
    found.reason = "one block has no spread";
    return;
  }
  found.verdict = Verdict::not_distinguishable;
  const double reach = noise ? noise_reach(*noise) : 1;
  if (!found.ratio.excludes()) {
    found.reason = "the interval holds 1";
  } else if (found.ratio.ratio < reach && found.ratio.ratio > 1 / reach) {
    found.reason = fmt::format(
        "within what the control differs by from itself: its interval [{:.3f}, {:.3f}] reaches a "
        "factor of {:.3f}", *noise->low, *noise->high, reach);
  } else if (found.adjusted_p && *found.adjusted_p >= 1 - confidence) {
    found.reason = fmt::format("p {:.2g} after adjusting for all comparisons", *found.adjusted_p);
  } else {
    found.verdict = found.ratio.ratio > 1 ? Verdict::faster : Verdict::slower;
    found.reason = noise && noise->low ? "the interval excludes 1, the ratio is beyond the noise"
                         : "the interval excludes 1; there is no measure of the noise";
  }
}

}  // namespace

double noise_reach(const RatioInterval& noise) {
  if (!noise.low || !noise.high) return 1;
  return std::max({1.0, *noise.high, 1 / *noise.low});
}

bool is_too_wide(const RatioInterval& ratio) {
  return ratio.low && ratio.high && !(*ratio.high <= kWidestFactor * *ratio.low);
}

const char* verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::faster: return "faster";
    case Verdict::slower: return "slower";
    case Verdict::not_distinguishable: return "not distinguishable";
    case Verdict::refused: return "refused";
  }
  return "?";
}

std::optional<Verdict> verdict_of_name(std::string_view name) {
  for (const Verdict verdict : {Verdict::faster, Verdict::slower, Verdict::not_distinguishable,
                                Verdict::refused}) {
    if (name == verdict_name(verdict)) return verdict;
  }
  return std::nullopt;
}

RatioInterval block_ratio(std::span<const double> arm, std::span<const double> control,
                          const ComparisonOptions& options) {
  return measure({{arm.begin(), arm.end()}, {control.begin(), control.end()}, 0}, options).interval;
}

std::vector<Comparison> compare_arms(const std::vector<PairedSpeeds>& arms,
                                     const std::vector<std::optional<RatioInterval>>& noise,
                                     const ComparisonOptions& asked) {
  KVLAB_CHECK_EQ(arms.size(), noise.size(),
                 "[statistics.compare_arms] arms and intervals of their controls");
  ComparisonOptions options = asked;
  options.draws = std::max(asked.draws, kDrawsPerComparison * arms.size());
  std::vector<Comparison> found(arms.size());
  std::vector<std::size_t> tested;
  std::vector<double> p_values;
  for (std::size_t i = 0; i < arms.size(); ++i) {
    const RobustRatio ratio = measure(arms[i], options);
    found[i].ratio = ratio.interval;
    found[i].p = ratio.p;
    if (!ratio.p) continue;
    tested.push_back(i);
    p_values.push_back(*ratio.p);
  }
  const std::vector<double> adjusted = holm_adjusted(p_values);
  for (std::size_t i = 0; i < tested.size(); ++i) found[tested[i]].adjusted_p = adjusted[i];
  for (std::size_t i = 0; i < arms.size(); ++i) {
    judge(found[i], arms[i], noise[i], options.confidence);
  }
  return found;
}

std::vector<Comparison> compare_with_control(const std::vector<PairedSpeeds>& arms,
                                             const std::optional<PairedSpeeds>& again,
                                             const ComparisonOptions& options) {
  std::optional<RatioInterval> noise;
  if (again && !again->arm.empty()) noise = measure(*again, options).interval;
  return compare_arms(arms, std::vector(arms.size(), noise), options);
}

std::string verdict_rule() {
  return fmt::format(
      "An arm is called faster or slower where the 95 % interval of its ratio to the control "
      "excludes 1, the ratio is further from 1, up or down, than the interval of the control "
      "against itself reaches (where it was measured twice), and p stays below 0.05 after Holm's "
      "adjustment for all comparisons of the table; otherwise it is not distinguishable. The "
      "verdict is refused where more than half of the samples of both were disturbed, or there is "
      "one block. Below {0} blocks the ratio is the geometric mean of the per-block ratios with a "
      "t-interval of their logarithms; from {0} on the mean of the middle half of the log-ratios "
      "with a seeded bootstrap interval of 10,000 draws, or {1} per comparison where there are "
      "more than {2}.",
      kBootstrapBlocks, kDrawsPerComparison, ComparisonOptions().draws / kDrawsPerComparison);
}

}  // namespace kvlab

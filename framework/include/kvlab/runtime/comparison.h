// The verdict on an arm beside the control: which words a difference may be called by.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvlab/runtime/statistics.h"

namespace kvlab {

/// Blocks from which on the bootstrap is used: below, its interval is too short.
inline constexpr std::size_t kBootstrapBlocks = 10;

enum class Verdict { faster, slower, not_distinguishable, refused };

/// "faster", "slower", "not distinguishable", "refused".
const char* verdict_name(Verdict verdict);

/// The verdict of that name, as a summary holds it; nothing for another text.
std::optional<Verdict> verdict_of_name(std::string_view name);

/// The speeds (more is better) of an arm and the control, block by block.
struct PairedSpeeds {
  std::vector<double> arm, control;  ///< one value per block, in the same unit
  std::size_t contended = 0;         ///< of both together: samples that something disturbed
};

/// How sure a verdict has to be, and how the bootstrap draws.
struct ComparisonOptions {
  double confidence = 0.95;
  std::size_t draws = 10'000;
  std::uint64_t seed = 1;
};

/// Returns arm over control with its interval: below `kBootstrapBlocks` blocks the geometric mean
/// with the t-interval of the log-ratios, from there on the mean of the middle half of the
/// log-ratios with a seeded bootstrap interval. Throws UserError as `ratio_t_interval` does.
RatioInterval block_ratio(std::span<const double> arm, std::span<const double> control,
                          const ComparisonOptions& options = {});

/// Whether the ends of the interval lie more than a factor of 100 apart: of two or three disturbed
/// blocks, and no number to print. Cells and sentences say so in words instead.
bool is_too_wide(const RatioInterval& ratio);

/// What a comparison found, and why.
struct Comparison {
  RatioInterval ratio;       ///< speed of the arm over that of the control
  std::optional<double> p;   ///< of "both are the same"; absent for one block
  std::optional<double> adjusted_p;  ///< Holm's, over all comparisons made together
  Verdict verdict = Verdict::refused;
  std::string reason;        ///< in words, with the numbers that decided
};

/// How far from 1 the interval of the control against itself reaches, as a factor of 1 or more; 1
/// where it has no interval. Two-sided: a control that came out 4 % faster than itself may as well
/// have made an arm 4 % slower.
double noise_reach(const RatioInterval& noise);

/// Judges arms against their controls; all of them together are one family of tests. `noise[i]` is
/// what the control of `arms[i]` differs by from itself, where that was measured: a ratio within
/// `noise_reach` of 1 is noise. Many arms get more draws than asked for, so that Holm's adjustment
/// can leave a finding. `verdict_rule` says the rule in words. Throws UserError where the lists
/// differ in length, and as `ratio_t_interval` does.
std::vector<Comparison> compare_arms(const std::vector<PairedSpeeds>& arms,
                                     const std::vector<std::optional<RatioInterval>>& noise,
                                     const ComparisonOptions& options = {});

/// As `compare_arms` for arms with one control, measured a second time as `again.arm`.
std::vector<Comparison> compare_with_control(const std::vector<PairedSpeeds>& arms,
                                             const std::optional<PairedSpeeds>& again,
                                             const ComparisonOptions& options = {});

/// The rule in words, as a report prints it.
std::string verdict_rule();

}  // namespace kvlab

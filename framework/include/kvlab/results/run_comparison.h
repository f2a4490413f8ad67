// Two runs compared: metric by metric, with an interval where samples give one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvlab/results/run_reader.h"

namespace kvlab {

/// When a change counts as a failure: B/A above or below a limit.
struct FailRule {
  std::string text;    ///< as written: ">5%", "<-3%", ">1.05x"
  bool above = true;   ///< fails where B/A is larger than `limit`, else where it is smaller
  double limit = 1.0;  ///< a ratio

  bool met(double ratio) const { return above ? ratio > limit : ratio < limit; }
};

/// Reads `>5%`, `<-3%` (changes from A to B) or `>1.05x` (the ratio B/A). Throws UserError with the
/// grammar for anything else.
FailRule parse_fail_rule(std::string_view text);

/// A ratio B/A and where the true one lies.
struct ComparedRatio {
  double ratio = 1.0;
  std::optional<double> low, high;  ///< of the two-sided 95 % interval
};

/// Compares two separate runs, whose blocks are not paired: geometric mean of `b` over that of `a`.
/// From 10 blocks on in both, the interval is a percentile bootstrap (blocks of each run resampled
/// on their own, `draws` times from `seed`); below, Welch's t-interval of the difference of the
/// mean logarithms. One block on either side gives none. Throws UserError where a list is empty or
/// holds anything but positive finite numbers.
ComparedRatio unpaired_ratio(const std::vector<double>& a, const std::vector<double>& b,
                             uint64_t seed, int draws = 10'000);

/// The two-sided p-value of "both runs are the same": Welch's t-test of the logarithms. Absent for
/// one block on either side. Throws UserError as `unpaired_ratio` does.
std::optional<double> unpaired_t_test(const std::vector<double>& a, const std::vector<double>& b);

struct CompareOptions {
  std::vector<std::string> metrics = {};  ///< empty: all
  std::vector<std::string> arms = {};     ///< empty: all
  std::optional<FailRule> rule = {};
  bool strict = false;  ///< the rule looks at the ratio itself and not at the interval's near end
  uint64_t seed = 0;    ///< of the bootstrap
};

enum class ChangeVerdict {
  equal,  ///< the same number
  better,
  worse,  ///< the interval excludes 1, or nothing here comes from a clock
  larger,
  smaller,              ///< as above, where neither way is better
  not_distinguishable,  ///< the interval covers 1, or among so many rows chance can do it
  refused,              ///< a time, and something disturbed most samples of one run
  no_interval,          ///< times without samples: nothing says what is noise
  not_comparable,       ///< no ratio: a value is missing, or A is zero or negative
};
const char* change_verdict_name(ChangeVerdict verdict);

/// One arm, metric and group of both runs.
struct ComparedMetric {
  std::string arm, metric, group, unit;
  BetterDirection direction = BetterDirection::none;
  double a = 0, b = 0;       ///< geometric means of blocks with `from_samples`, else the summaries'
  int64_t n_a = 0, n_b = 0;  ///< blocks, or the summaries' n
  bool from_samples = false;
  bool timed = false;           ///< a clock gave it
  bool disturbed = false;       ///< more than half of the arm's samples in A or in B were
  bool second_control = false;  ///< the control once more, as a measure of noise: no rule holds it
  std::optional<ComparedRatio> ratio;  ///< absent where it is not defined
  std::optional<double> p;           ///< of no change; where there is an interval
  std::optional<double> p_adjusted;  ///< by Holm's method over all rows that are judged by theirs
  ChangeVerdict verdict = ChangeVerdict::no_interval;
  bool fails = false;  ///< the rule is met, or it cannot be judged since there is no ratio
};

/// Something that both runs say, differently.
struct RunDifference {
  std::string what, a, b;
};

struct RunComparison {
  std::vector<ComparedMetric> metrics = {};                 ///< in the order of A
  std::vector<std::string> only_in_a = {}, only_in_b = {};  ///< "arm, metric, group"
  std::vector<RunDifference> config = {};                   ///< by key
  std::vector<RunDifference> environment = {};              ///< without what changes by the minute
  std::vector<ReportCheck> broken_checks = {};              ///< failed in B, passed in A
  std::vector<ReportFailure> new_failures = {};             ///< of B, not in A
  bool has_rule = false;

  int64_t tests() const;    ///< rows with a `p_adjusted`
  int64_t refused() const;  ///< rows with that verdict

  /// A check broke; or with a rule, it is met, or something of A is missing in B.
  bool fails() const;
};

/// Compares B with A. Both must have ended well. Throws UserError where not, or where the options
/// select nothing that both have; the message lists what there is.
RunComparison compare_runs(const StoredRun& a, const StoredRun& b, const CompareOptions& options);

/// The compared metrics as a table.
ReportTable comparison_table(const RunComparison& comparison);

}  // namespace kvlab

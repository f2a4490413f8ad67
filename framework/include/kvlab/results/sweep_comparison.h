// Two sweeps compared: case by case, each as two runs are.
#pragma once

#include <string>
#include <vector>

#include "kvlab/results/run_comparison.h"

namespace kvlab {

/// One case that both sweeps ran.
struct ComparedCase {
  std::string name;  ///< in A
  RunComparison runs;
};

/// A case that stands on one side only, or did not end well on one.
struct UncomparedCase {
  std::string name, reason;
  bool fails = false;  ///< it ended well in A, and not in B
};

struct SweepComparison {
  std::vector<ComparedCase> cases = {};         ///< in the order of A
  std::vector<UncomparedCase> uncompared = {};  ///< in the order of A, then of B
  int64_t skipped = 0;                          ///< in both, as combinations that cannot work
  bool has_rule = false;

  /// A case of A ended well there and not in B, or the comparison of a case fails.
  bool fails() const;
};

/// Compares the cases of sweep B with those of sweep A that set the same keys to the same values,
/// in whatever order. Cases in which neither run has what the options select are left out. Throws
/// UserError where a sweep has cases that never ran, where no case of A is one of B, and as
/// `compare_runs` does.
SweepComparison compare_sweeps(const StoredRuns& a, const StoredRuns& b,
                               const CompareOptions& options);

/// The compared metrics of all cases as one table.
ReportTable comparison_table(const SweepComparison& comparison);

}  // namespace kvlab

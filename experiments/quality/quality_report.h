// What a reader sees: distances with intervals, where in the text they lie, and the bytes beside
// them.
#pragma once

#include <vector>

#include "kvlab/runtime/experiment.h"
#include "quality_experiment.h"

namespace kvlab::experiments::quality_kind {

/// Fills report, metrics and checks from the scores. Arms that failed are left out of the tables;
/// their failures are already in `outcome`.
void fill_report(const QualityConfig& config, const std::vector<ArmScores>& scores,
                 ExperimentResult& outcome);

}  // namespace kvlab::experiments::quality_kind

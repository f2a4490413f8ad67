// From samples and verdicts to tables, figures and sentences.
#pragma once

#include <vector>

#include "kvlab/runtime/experiment.h"
#include "speed_measurement.h"

namespace kvlab::experiments::decode_speed_kind {

/// Fills tables, figures, checks, conclusions, failures and metrics.
ExperimentResult make_report(const SpeedConfig& config, const std::vector<CaseResult>& cases);

}  // namespace kvlab::experiments::decode_speed_kind

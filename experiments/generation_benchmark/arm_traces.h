// When each part of each layer ran: one more run of each arm, after the measured ones.
#pragma once

#include <vector>

#include "arm_site.h"

namespace kvlab::experiments {

/// The arms that have a trace to come: those that have not failed, without the second control.
std::vector<size_t> traced_arms(const BenchmarkConfig& config, const std::vector<Arm>& arms);

/// Runs each of them once more on the case that the site was told last, and writes
/// trace/<arm>.json into the run's folder (Trace Event Format). Files are named in the report; an
/// arm that throws is among its failures and keeps its figures. Throws InterruptedError.
void write_traces(const BenchmarkConfig& config, const Case& one, ArmSite& site,
                  const std::vector<Arm>& arms, RunContext& context, ReportDocument& report);

}  // namespace kvlab::experiments

// The parts of a report on a shared prompt, each in a file of its own.
#pragma once

#include <string>
#include <vector>

#include "kvlab/runtime/experiment.h"
#include "shared_prompt_findings.h"

namespace kvlab::experiments::shared_prompt_kind {

inline constexpr double kMebibyte = 1024.0 * 1024.0;

/// Time with verdicts, and memory with work. Fills the metrics that the tables show.
ReportSection tables(const Findings& findings, std::vector<Metric>& metrics);

/// Peak bytes, time to the first tokens, and memory against speed.
ReportSection figures(const Findings& findings);

/// What forking saves in each arm, each arm beside the control, and the noise.
std::vector<std::string> conclude(const Findings& findings);

}  // namespace kvlab::experiments::shared_prompt_kind

// What a reader sees of a shared prompt: bytes, work and time with and without forking.
#pragma once

#include "shared_prompt_experiment.h"

namespace kvlab::experiments::shared_prompt_kind {

/// Fills report, metrics and checks. Variants whose arm failed are left out and reported.
void fill_report(const SharedPromptConfig& config, const Measured& measured,
                 ExperimentResult& outcome);

}  // namespace kvlab::experiments::shared_prompt_kind

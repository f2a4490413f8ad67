// What a reader sees of a shared prompt: bytes, work and time with and without forking.
#pragma once

#include <vector>

#include "shared_prompt_experiment.h"

namespace kvlab::experiments::shared_prompt_kind {

/// Fills report, metrics and checks. Variants whose arm failed are left out and reported.
void fill_report(const SharedPromptConfig& config, const std::vector<ArmState>& arms,
                 size_t control, const std::vector<Variant>& variants, ExperimentResult& outcome);

}  // namespace kvlab::experiments::shared_prompt_kind

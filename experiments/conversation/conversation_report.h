// What a reader sees of a conversation: work, time and bytes turn by turn, kept and refed.
#pragma once

#include <vector>

#include "conversation_experiment.h"

namespace kvlab::experiments::conversation_kind {

/// Fills report and metrics; the gate has filled the checks. `suspended` blocks were left out.
void fill_report(const ConversationConfig& config, const std::vector<ArmState>& arms,
                 size_t control, int suspended, ExperimentResult& outcome);

}  // namespace kvlab::experiments::conversation_kind

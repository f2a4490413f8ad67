// What experiment kinds do with arms before anything runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

/// The session of `arm` with `rows` texts of at most `max_length` tokens; the arm's own settings go
/// before the runtime's.
SessionOptions arm_session_options(const RuntimeConfig& runtime, const ArmConfig& arm, int64_t rows,
                                   int64_t max_length);

/// Whether the weights that will be loaded bring a table for learned positions, if `position`
/// replaces the model's own.
bool has_position_table(const ModelSource& source, const ModelConfig& model,
                        const ComponentSpec& position);

/// Refuses arms that cannot run on the model, at `arms` of the config: first names and options,
/// with their place, then every reason of every arm why its parts cannot work together. Allocates
/// nothing. Throws UserError or MissingError.
void check_arms(const ConfigReader& reader, const std::vector<ArmConfig>& arms,
                const RuntimeConfig& runtime, const ModelSource& source, const Registry& registry,
                int64_t rows, int64_t max_length);

}  // namespace kvlab

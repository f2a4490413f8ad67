// From a config that was read to its experiment. Private.
#pragma once

#include <string>

#include "kvlab/runtime/experiment.h"

namespace kvlab {

/// As `load_experiment`, of a tree that was read already.
LoadedExperiment open_experiment_tree(const ConfigNode& root, std::string input_text,
                                      Registry& registry);

}  // namespace kvlab

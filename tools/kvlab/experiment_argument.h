// What names an experiment on the command line.
#pragma once

#include <string>
#include <vector>

#include "kvlab/runtime/experiment.h"

namespace kvlab {

/// The path of an experiment file, or of the one that a bare name stands for. Throws MissingError
/// with the names there are.
std::string find_experiment(const std::string& argument);

/// Loads an experiment file, or the one that a bare name stands for in configs/experiments, beside
/// the current directory or in the source tree. Throws MissingError with the names there are, or
/// UserError, which says so where the file is a model's.
LoadedExperiment open_experiment(const std::string& argument,
                                 const std::vector<std::string>& overrides,
                                 Registry& registry);

}  // namespace kvlab

// All that is wrong with a config, where running it would stop at the first.
#pragma once

#include <string>
#include <vector>

#include "kvlab/runtime/config_error.h"

namespace kvlab {

class Registry;

/// Everything wrong with an experiment file, in the order of the files' lines; nothing where
/// `load_experiment` takes it. Unknown keys, wrong types, ranges and choices, names and options of
/// components come from the kind's schema, all of them. What only the kind itself can see is found
/// by asking it again with what is known to be wrong taken out, as long as that leaves a whole
/// config; an error that only follows from another is left out. Plugin libraries that the file
/// names stay loaded. Throws MissingError where the file does not exist.
std::vector<ConfigProblem> check_experiment(const std::string& path,
                                            const std::vector<std::string>& overrides,
                                            Registry& registry);

}  // namespace kvlab

// What could stand where the cursor is on a kvlab command line.
#pragma once

#include <string>
#include <vector>

#include "command.h"

namespace kvlab {

/// Candidates for the last of `words`, which may be empty or a beginning; `words` starts after the
/// program's name. Candidates are whole words that start with it; one that ends with '=', ':', ',' or
/// '.' goes on. None where file names are what fits. Answers from the parser, the registry and the
/// folders of configs.
std::vector<std::string> complete_command_line(const CLI::App& app,
                                               const std::vector<std::string>& words);

}  // namespace kvlab

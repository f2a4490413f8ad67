// --print-config: what a config says once files and overrides are followed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "command.h"

namespace kvlab {

struct PrintConfigOptions {
  bool print = false;
  bool origin = false;
  int64_t case_index = -1;  ///< of a sweep; below 0: the file itself
};

/// Adds --print-config, --origin and --case.
void add_print_config_options(CLI::App& command, PrintConfigOptions& options);

/// Prints the resolved config of an experiment as YAML, with `origin` also the place of each value
/// and the defaults. Of a file with `sweep:`, one case, or the file with its `sweep:`. Throws as
/// `open_experiment` does; a sweep is checked only as far as its first case that can run.
void print_config(const std::string& argument, const std::vector<std::string>& overrides,
                  Registry& registry, const PrintConfigOptions& options);

}  // namespace kvlab

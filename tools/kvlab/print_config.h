// --print-config: what a config says once files and overrides are followed.
#pragma once

#include <string>
#include <vector>

#include "command.h"

namespace kvlab {

struct PrintConfigOptions {
  bool print = false;
  bool origin = false;
};

/// Adds --print-config and --origin.
void add_print_config_options(CLI::App& command, PrintConfigOptions& options);

/// Prints the resolved config of an experiment as YAML, with `origin` also the place of each value and
/// the defaults. Throws as `open_experiment` does.
void print_config(const std::string& argument, const std::vector<std::string>& overrides,
                  Registry& registry, bool origin);

}  // namespace kvlab

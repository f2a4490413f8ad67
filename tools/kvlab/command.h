// The commands of kvlab. Each adds its subcommand and options to the parser; the one that was named
// then leaves its work in the Invocation, so that parsing is over before anything runs.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "kvlab/runtime/registry.h"

namespace kvlab {

/// What the command line asked for.
struct Invocation {
  std::vector<std::string> argv;  ///< as typed
  std::function<int()> run;       ///< does it and returns the exit code; empty for no command
};

/// Everything that is built in: plugins and experiment kinds.
Registry builtin_registry();

/// Adds --plugin FILE, which may be repeated.
void add_plugin_option(CLI::App& command, std::vector<std::string>& files);

/// What is built in, then the libraries of KVLAB_PLUGIN_PATH, then `files`. Throws as `load_plugins`
/// does.
Registry open_registry(const std::vector<std::string>& files);

}  // namespace kvlab

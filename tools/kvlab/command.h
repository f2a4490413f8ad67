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

}  // namespace kvlab

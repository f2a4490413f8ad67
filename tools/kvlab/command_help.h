// kvlab help, and what stands below the options in every help: the command's examples.
#pragma once

#include "command.h"

namespace kvlab {

/// Adds the command. Comes last: gives every other command the examples that show it, and the
/// program all of them with the exit codes.
void add_help_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

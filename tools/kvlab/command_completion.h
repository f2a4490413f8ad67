// kvlab completion: scripts for bash and zsh that ask `kvlab complete` what could stand there.
#pragma once

#include "command.h"

namespace kvlab {

/// Adds `completion`, and `complete`, which no help shows. To be added last: it answers from all the
/// other commands.
void add_completion_commands(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

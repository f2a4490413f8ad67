// kvlab completion: scripts for bash and zsh that ask `kvlab complete` what could stand there.
#pragma once

#include <string>
#include <vector>

#include "command.h"

namespace kvlab {

/// Adds `completion`, and `complete`, which no help shows. To be added last: it answers from all the
/// other commands.
void add_completion_commands(CLI::App& app, Invocation& invocation);

/// Prints the candidates for `argv`, which is PROGRAM complete -- WORDS..., and returns the exit code.
/// The words are half a command line, so `app` must not parse them.
int answer_completion(const CLI::App& app, const std::vector<std::string>& argv);

}  // namespace kvlab

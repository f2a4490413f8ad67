// kvlab sweep: many runs of one experiment file.
#pragma once

#include "command.h"

namespace kvlab {

void add_sweep_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

// kvlab worker: one case of a planned sweep, or the table of all.
#pragma once

#include "command.h"

namespace kvlab {

void add_worker_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

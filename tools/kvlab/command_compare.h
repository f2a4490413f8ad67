// `kvlab compare`: two runs side by side, with an exit code for scripts.
#pragma once

#include "command.h"

namespace kvlab {

void add_compare_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

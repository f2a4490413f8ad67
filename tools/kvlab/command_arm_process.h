// `kvlab arm-process`: one arm of a run in a process of its own. Runs start it; it is not shown.
#pragma once

#include "command.h"

namespace kvlab {

void add_arm_process_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

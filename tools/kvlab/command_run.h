// `kvlab run`: runs an experiment file and writes its folder and report.
#pragma once

#include "command.h"

namespace kvlab {

void add_run_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

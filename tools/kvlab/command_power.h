// `kvlab power`: how often verdicts are wrong, simulated from a run's samples.
#pragma once

#include "command.h"

namespace kvlab {

void add_power_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

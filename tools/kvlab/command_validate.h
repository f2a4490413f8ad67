// `kvlab validate`: checks an experiment file without running it.
#pragma once

#include "command.h"

namespace kvlab {

void add_validate_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

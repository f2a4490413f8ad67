// kvlab schema: JSON Schema of config files, for editors and checkers.
#pragma once

#include "command.h"

namespace kvlab {

void add_schema_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

// `kvlab memory`: bytes that caches take for a model's shape, before anything is loaded.
#pragma once

#include "command.h"

namespace kvlab {

void add_memory_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

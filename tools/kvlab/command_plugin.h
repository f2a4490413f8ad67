// `kvlab plugin`: shows a plugin library, and checks it with the conformance tests.
#pragma once

#include "command.h"

namespace kvlab {

void add_plugin_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

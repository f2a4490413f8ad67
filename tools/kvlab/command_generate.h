// `kvlab generate`: text or token ids from a prompt, with times and bytes.
#pragma once

#include "command.h"

namespace kvlab {

void add_generate_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

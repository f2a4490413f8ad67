// `kvlab list`: names and summaries of everything a config can name.
#pragma once

#include "command.h"

namespace kvlab {

void add_list_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

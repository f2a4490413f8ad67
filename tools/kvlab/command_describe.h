// `kvlab describe`: options, traits and bytes of one plugin or experiment kind.
#pragma once

#include "command.h"

namespace kvlab {

void add_describe_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

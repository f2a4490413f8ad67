// `kvlab tokenize`: text to token ids and back.
#pragma once

#include "command.h"

namespace kvlab {

void add_tokenize_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

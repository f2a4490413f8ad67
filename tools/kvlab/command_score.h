// `kvlab score`: how likely a model finds a given text, fed through a cache.
#pragma once

#include "command.h"

namespace kvlab {

void add_score_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

// `kvlab export`: what runs left behind, as CSV, JSON or SQLite.
#pragma once

#include "command.h"

namespace kvlab {

void add_export_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

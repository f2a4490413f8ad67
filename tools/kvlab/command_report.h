// `kvlab report`: writes a run's report again from its document.json.
#pragma once

#include "command.h"

namespace kvlab {

void add_report_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

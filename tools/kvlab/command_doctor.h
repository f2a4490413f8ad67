// `kvlab doctor`: says what this machine and this checkout have and lack.
#pragma once

#include "command.h"

namespace kvlab {

void add_doctor_command(CLI::App& app, Invocation& invocation);

}  // namespace kvlab

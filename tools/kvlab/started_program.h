// Starts another program of kvlab and passes on what it prints.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kvlab/runtime/child_process.h"

namespace kvlab {

/// Runs `arguments[0]`, a path, in a process group of its own until it ends; where that is not
/// before `deadline`, the group is stopped. Its standard output goes line by line to `on_line`,
/// without the line's end; standard error is this program's. Programs that it leaves behind are not
/// waited for. Throws UserError where it cannot be started, and InterruptedError where the user
/// asked for a stop; the group has been stopped then, too.
ChildEnd run_started_program(const std::vector<std::string>& arguments,
                             ChildProcess::Clock::time_point deadline,
                             const std::function<void(std::string_view)>& on_line);

/// The path of this program's own file.
std::string own_program();

}  // namespace kvlab

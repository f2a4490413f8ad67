// Starts another program of kvlab and passes on what it prints.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

/// How a program ended.
struct ProgramEnd {
  int exit_code = 0;  ///< where no signal ended it
  int signal = 0;     ///< 0: none
};

/// Runs `arguments[0]`, a path, until it ends. Its standard output goes line by line to `on_line`,
/// without the line's end; standard error is this program's. Throws UserError where it cannot be
/// started.
ProgramEnd run_started_program(const std::vector<std::string>& arguments,
                               const std::function<void(std::string_view)>& on_line);

/// The path of this program's own file.
std::string own_program();

}  // namespace kvlab

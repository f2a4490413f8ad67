// Runs programs whose files are watched by the library kvlab_faults.
#pragma once

#include <string>
#include <vector>

#include "tests/fixtures/run_program.h"

namespace kvlab::survival {

/// What is to happen, and to which operations: see fault_library.cpp.
struct Fault {
  int64_t at = 0;               ///< 0: nothing happens
  std::string action = "kill";  ///< kill, torn, ENOSPC, EIO, interrupt or stop
  bool forever = false;
  std::string calls = "";  ///< with commas between; all where empty
  std::string library = KVLAB_FAULT_LIBRARY;
};

/// One operation below the watched folder.
struct Operation {
  std::string call, path, new_path;
  bool refused = false;  ///< it was not done
};

/// The command line that runs `words` with files below `folder` watched; operations are appended to
/// `log`, which lies elsewhere.
std::vector<std::string> under_fault(const Fault& fault, const std::string& folder,
                                     const std::string& log, std::vector<std::string> words);

/// Runs a program so and waits for its end, for `seconds` at most. Throws std::runtime_error where
/// the log knows nothing of it: then nothing watched it.
ProgramResult run_watched(const Fault& fault, const std::string& folder, const std::string& log,
                          const std::vector<std::string>& words, double seconds = 120);

/// The operations in `log`, of all processes; none where there is no such file. Throws
/// std::runtime_error where a line is torn or missing.
std::vector<Operation> read_operations(const std::string& log);

/// The last lines of `log`, for a complaint.
std::string last_lines(const std::string& log, size_t count);

}  // namespace kvlab::survival

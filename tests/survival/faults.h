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

/// The operations in `log`; none where there is no such file.
std::vector<Operation> read_operations(const std::string& log);

}  // namespace kvlab::survival

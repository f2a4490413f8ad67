// What the process tells its caller: exit codes, and how exceptions become them.
#pragma once

#include <ostream>
#include <stdexcept>

#include "kvlab/core/error.h"

namespace kvlab {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;         ///< a run failed
inline constexpr int kExitUsage = 2;          ///< wrong command line, config or plugin library
inline constexpr int kExitRuleMet = 3;        ///< `compare`: B is worse than the rule allows
inline constexpr int kExitMissing = 4;        ///< a model, file or plugin does not exist
inline constexpr int kExitInterrupted = 130;  ///< stopped by the user; partial results were kept

/// A run that was accepted and then failed: exit code 1, whatever the cause was.
class RunFailed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Calls `work`, the part of a command that comes after all checks. A UserError out of it (logits
/// that are not finite, storage that ran out) is the run's failure and no longer one of usage.
template <typename Work>
void run_checked(Work&& work) {
  try {
    work();
  } catch (const UserError& error) {
    throw RunFailed(error.what());
  }
}

/// Writes the text of the exception being handled to `log`, without a stack trace, and returns its
/// exit code. Requires: called from a catch block.
int report_exception(std::ostream& log);

}  // namespace kvlab

// Runs the cases of a sweep in this process, one after another, or one of them.
#pragma once

#include <ostream>
#include <string>

#include "kvlab/sweep/sweep_folder.h"

namespace kvlab {

struct SweepRunOptions {
  bool retry_failed = false;  ///< run failed cases again
  /// Of figures in the sweep's report; may be empty. Those of the cases are left undrawn, a second
  /// each: `kvlab report RUN` draws them.
  std::string renderer_python, renderer_script;
  std::string program;  ///< see RunContext; empty: this one
};

/// Runs every case that is missing, then writes the merged table, the store and the report. A case
/// that fails is kept as failed and the others go on. Returns 0, 1 where a case failed, 130 where
/// interrupted: then what is done is kept. Throws LockedError where another process writes there,
/// StorageError where the disk does not take results, MissingError where a file that a case needs
/// has gone since it was planned, UserError where program or data differ from the plan's.
int run_sweep(SweepFolder& sweep, const RegistryFactory& registry, const SweepRunOptions& options,
              std::ostream& out, std::ostream& log);

/// Runs one case beside other workers. Returns the case's exit code, 0 where it was done before.
int run_sweep_case(SweepFolder& sweep, int64_t index, const RegistryFactory& registry,
                   const SweepRunOptions& options, std::ostream& log);

/// Writes the merged table, the store, the report and the final status from the cases that are done.
/// Returns 0 where all are, and none failed; else 1.
int aggregate_sweep(SweepFolder& sweep, const SweepRunOptions& options, std::ostream& out,
                    std::ostream& log);

}  // namespace kvlab

// A sweep as jobs of a Slurm cluster: arrays of workers, and a job that merges after them.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "kvlab/sweep/sweep_folder.h"

namespace kvlab {

struct SlurmOptions {
  std::string partition;  ///< empty: the cluster's default
  std::string time;       ///< of one case, as sbatch takes it; empty: the partition's
  int array_parallelism = 0;  ///< most cases at once; 0: as many as the cluster runs
  int cpus_per_task = 0;      ///< 0: as many as the case with most threads needs
  bool emit_only = false;     ///< print the scripts and submit nothing
};

/// One script for sbatch.
struct SlurmScript {
  std::string name;  ///< file name below slurm/
  std::string text;
};

/// The scripts for the cases that are missing: arrays of at most 1,000 (Slurm's default limit), in
/// order, then "aggregate.sh". `program` is the kvlab command line, `working_folder` where it runs.
/// Throws UserError where nothing is missing, an option is no such thing, or a case has more threads
/// than `cpus_per_task`.
std::vector<SlurmScript> slurm_scripts(const SweepFolder& sweep, const SlurmOptions& options,
                                       const std::string& program,
                                       const std::string& working_folder);

/// Writes the scripts into slurm/ of the sweep's folder and submits them with sbatch: each array
/// after the one before, whatever became of it, and the merging after all. With `emit_only` prints
/// them instead. Throws UserError where sbatch refuses.
void launch_on_slurm(const SweepFolder& sweep, const SlurmOptions& options, std::ostream& out);

/// "0-2,5,7-8" for sorted numbers without repetition.
std::string number_ranges(const std::vector<int64_t>& numbers);

}  // namespace kvlab

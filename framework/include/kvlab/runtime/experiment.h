// What an experiment kind implements. `create` of its registry entry reads and checks its keys, so
// that validating a config is creating its experiment; `run` does the work.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/registry.h"
#include "kvlab/runtime/report_document.h"
#include "kvlab/runtime/run_folder.h"

namespace kvlab {

/// What a running experiment works with.
struct RunContext {
  const Registry& registry;
  RunFolder& folder;
  std::ostream& out;  ///< results, e.g. streamed text
  std::ostream& log;  ///< progress: one plain line per case
};

/// What a run found. `report` needs title, sections, conclusions, varied and so on; the runner adds
/// question, command, environment and links.
struct ExperimentResult {
  ReportDocument report;
  std::vector<Metric> metrics;
  bool passed = true;  ///< false: a check failed or an arm could not run; exit code 1
};

class Experiment {
 public:
  virtual ~Experiment() = default;

  /// Throws UserError before any work where the model and the arms cannot work together.
  virtual ExperimentResult run(RunContext& context) = 0;

  /// Seed of everything random in the run, for run.json.
  virtual uint64_t seed() const { return 0; }
};

/// Reads a config file with overrides, and creates its experiment. This is all validation.
struct LoadedExperiment {
  ExperimentConfig config;
  std::string input_text;
  std::unique_ptr<Experiment> experiment;
};
LoadedExperiment load_experiment(const std::string& path, const std::vector<std::string>& overrides,
                                 const Registry& registry);

struct RunOptions {
  std::string runs_folder = "runs";
  std::vector<std::string> argv;       ///< recorded, and shown as the command that repeats the run
  std::vector<std::string> overrides;
  std::string renderer_python, renderer_script;  ///< of figures; may be empty
};

/// Runs it, writes the run's folder and report, and prints the summary table and the report's path
/// to `out`. Progress goes to `log` and, with times, to the folder's log.txt. Returns the exit code:
/// 0 ok, 1 a check or arm failed, 4 something named is missing, 130 interrupted.
int run_experiment(LoadedExperiment& loaded, const Registry& registry, const RunOptions& options,
                   std::ostream& out, std::ostream& log);

}  // namespace kvlab

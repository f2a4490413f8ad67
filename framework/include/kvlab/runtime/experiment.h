// What an experiment kind implements. `create` of its registry entry reads and checks its keys, so
// that validating a config is creating its experiment; `run` does the work.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "kvlab/runtime/experiment_config.h"
#include "kvlab/runtime/registry.h"
#include "kvlab/runtime/report_document.h"
#include "kvlab/runtime/run_folder.h"

namespace kvlab {

class ArmService;
class RunProgress;

/// The kvlab command line that this program is; arms in processes of their own are started from it.
inline constexpr const char* kThisProgram = "/proc/self/exe";

/// What a running experiment works with.
struct RunContext {
  const Registry& registry;
  RunFolder& folder;
  std::ostream& out;  ///< results, e.g. streamed text
  std::ostream& log;  ///< progress: one plain line per case
  std::string program = kThisProgram;
  RunProgress* progress = nullptr;  ///< who watches, if anyone

  /// Tells whoever watches how many units of work are to come: take ones that last about as long.
  void begin_progress(int64_t total) const;
  /// Tells that units are done, or will never be.
  void advance_progress(int64_t units = 1) const;
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

  /// Whether `isolation: process` can be asked for: arms then run in processes of their own.
  virtual bool isolates_arms() const { return false; }

  /// What the arm `name` does in its own process; the experiment outlives it. Throws UserError
  /// unless `isolates_arms`, or where the config has no such arm.
  virtual std::unique_ptr<ArmService> serve_arm(const std::string& name, const Registry& registry);
};

/// A config file whose experiment is ready to run.
struct LoadedExperiment {
  ExperimentConfig config;
  std::string input_text;
  std::unique_ptr<Experiment> experiment;
};

/// Reads a config file with overrides, loads the plugin libraries it names into `registry` (those
/// that are not there yet), and creates its experiment. This is all validation. The config's root
/// then names every library of the registry by its absolute path, so that the resolved config
/// repeats the run. `registry` must outlive the experiment; libraries stay in it where this throws.
LoadedExperiment load_experiment(const std::string& path, const std::vector<std::string>& overrides,
                                 Registry& registry);

struct RunOptions {
  std::string runs_folder = "runs";    ///< takes a new folder for the run
  std::string folder;                  ///< instead, this one, which exists and is empty
  std::vector<std::string> argv;       ///< recorded, and shown as the command that repeats the run
  std::vector<std::string> overrides;
  std::string renderer_python, renderer_script;  ///< of figures; may be empty
  std::string program = kThisProgram;  ///< see there; for tests, and for other programs
};

/// Runs it, writes the run's folder and report, and prints the summary table and the report's path
/// to `out`. Progress goes to `log` and, with times, to the folder's log.txt. Returns the exit
/// code: 0 ok, 1 a check or arm failed, 4 something named is missing, 130 interrupted. Throws
/// StorageError where the disk does not take the results, which says nothing about the experiment.
int run_experiment(LoadedExperiment& loaded, const Registry& registry, const RunOptions& options,
                   std::ostream& out, std::ostream& log);

}  // namespace kvlab

#include "kvlab/sweep/sweep_runner.h"

#include <c10/util/Exception.h>

#include <chrono>
#include <cstdio>
#include <sstream>

#include "kvlab/core/error.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/heartbeat.h"
#include "kvlab/runtime/process.h"
#include "kvlab/results/store.h"
#include "kvlab/runtime/report_writer.h"
#include "kvlab/runtime/shell_command.h"
#include "kvlab/runtime/time_left.h"
#include "kvlab/sweep/merged_table.h"
#include "kvlab/sweep/sweep_report.h"

namespace kvlab {

namespace {

constexpr double kHeartbeatSeconds = 3;
constexpr int kInterrupted = 130;

// The frozen config, or UserError where somebody has changed it.
void check_frozen(const SweepFolder& sweep, const SweepCase& planned) {
  const std::string path = sweep.config_of(planned);
  KVLAB_CHECK(hash_text(read_file(path)) == planned.frozen, "[sweep.run] '", path,
              "' was changed since the sweep was planned. Bring it back, or start a new sweep");
}

// A case that is refused when it is loaded leaves a folder that says so.
int keep_refusal(const SweepFolder& sweep, const SweepCase& planned, const std::string& folder,
                 const std::vector<std::string>& argv, const std::string& message) {
  const ConfigNode resolved = load_config_file(sweep.config_of(planned));
  RunFolder run(folder, sweep.plan().experiment, resolved,
                {read_file(sweep.config_of(planned)), {}, argv, 0});
  run.finish(RunStatus::failed, 1, message);
  return 1;
}

int run_loaded(const SweepFolder& sweep, const SweepCase& planned, const std::string& folder,
               const RegistryFactory& new_registry, const SweepRunOptions& options) {
  RunOptions run;
  run.folder = folder;
  run.argv = {"kvlab", "run", sweep.config_of(planned)};
  if (!options.program.empty()) run.program = options.program;
  Registry registry = new_registry();
  std::unique_ptr<LoadedExperiment> loaded;
  try {
    loaded = std::make_unique<LoadedExperiment>(
        load_experiment(sweep.config_of(planned), {}, registry));
  } catch (const InterruptedError&) {
    return kInterrupted;
  } catch (const StorageError&) {
    throw;
  } catch (const MissingError&) {
    // It was there when the case was planned. What is away now is no result of the case, which
    // stays missing, so that --resume runs it.
    throw;
  } catch (const c10::Error& error) {
    return keep_refusal(sweep, planned, folder, run.argv, error.what_without_backtrace());
  } catch (const std::exception& error) {
    return keep_refusal(sweep, planned, folder, run.argv, error.what());
  }
  // What single runs print would hide the sweep's progress; the case's log.txt has it.
  std::ostringstream streamed, progress;
  return run_experiment(*loaded, registry, run, streamed, progress);
}

// Runs a case into its folder. Returns its exit code; interrupted, or where data were replaced in
// the meantime, it leaves nothing behind.
int attempt(const SweepFolder& sweep, const SweepCase& planned, const RegistryFactory& registry,
            const SweepRunOptions& options) {
  check_frozen(sweep, planned);
  const std::string folder = sweep.begin_attempt(planned);
  int code = run_loaded(sweep, planned, folder, registry, options);
  try {
    if (code != kInterrupted) sweep.check_data();
  } catch (const InterruptedError&) {
    code = kInterrupted;
  } catch (const UserError& error) {
    sweep.drop_attempt(planned);
    throw UserError(detail::concat("[sweep.run] case ", planned.index, " (", planned.name,
                                   ") was dropped: data changed while it ran. ", error.what()));
  }
  if (code == kInterrupted) {
    sweep.drop_attempt(planned);
  } else {
    sweep.complete_attempt(planned);
  }
  return code;
}

std::string position(const SweepFolder& sweep, const SweepCase& planned) {
  return detail::concat("[", planned.index + 1, "/", sweep.plan().cases.size(), "] ",
                        planned.name);
}

std::string in_words(const SweepCounts& counts) {
  std::string text = detail::concat(counts.cases, " cases: ", counts.ok, " ok");
  if (counts.failed > 0) text += detail::concat(", ", counts.failed, " failed");
  if (counts.skipped > 0) text += detail::concat(", ", counts.skipped, " skipped");
  if (counts.missing > 0) text += detail::concat(", ", counts.missing, " missing");
  return text;
}

SweepReportText report_text(const SweepFolder& sweep) {
  SweepReportText text{"Sweep", "", "", sweep.plan().experiment, "",
                       repeating_command(sweep.argv())};
  for (const SweepCase& planned : sweep.plan().cases) {
    if (planned.skipped()) continue;
    const ConfigNode root = load_config_file(sweep.config_of(planned));
    const auto scalar = [&](const char* key) {
      const ConfigNode* found = root.find(key);
      return found != nullptr && found->is_scalar() ? found->text() : std::string();
    };
    text.question = scalar("question");
    text.title = scalar("title").empty() ? text.question : scalar("title");
    text.primary_metric = scalar("primary_metric");
    text.control = scalar("control");
    break;
  }
  return text;
}

// What can be made of the cases: the table, the store and the report.
void write_results(const SweepFolder& sweep, const SweepRunOptions& options, std::ostream& out,
                   std::ostream& log) {
  write_file_atomically(sweep.file("table.csv"), merged_table(sweep));
  write_store(sweep.path());
  const WrittenReport report =
      write_report(make_sweep_report(read_runs(sweep.path()), report_text(sweep)),
                   sweep.file("report"), {options.renderer_python, options.renderer_script});
  // Before sweep.json says that all is done.
  sync_tree(sweep.file("report"));
  sync_folder(sweep.path());
  for (const std::string& warning : report.warnings) log << warning << "\n";
  out << "Table: " << sweep.file("table.csv") << "\nReport: " << report.html << "\n";
}

int write_end(SweepFolder& sweep, const SweepRunOptions& options, std::ostream& out,
              std::ostream& log) {
  write_results(sweep, options, out, log);
  const SweepCounts counts = sweep.counts();
  const int code = counts.failed + counts.missing > 0 ? 1 : 0;
  sweep.write_status(code == 0 ? RunStatus::ok : RunStatus::failed, code);
  out << in_words(counts) << "\n";
  return code;
}

int stop_interrupted(SweepFolder& sweep, std::ostream& log) {
  sweep.write_status(RunStatus::interrupted, kInterrupted, "the user asked for a stop");
  log << "Interrupted; what is done is kept. Go on with: kvlab sweep --resume " << sweep.path()
      << "\n";
  return kInterrupted;
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// How far this process is with the cases that were missing when it began.
class Progress {
 public:
  explicit Progress(int64_t missing) : missing_(missing) {}

  /// Counts a case that is done; tells the time that the others take.
  std::string after_one() {
    ++done_;
    return time_left(seconds_since(start_), done_, missing_);
  }

 private:
  Clock::time_point start_ = Clock::now();
  int64_t missing_, done_ = 0;
};

// Runs one case and says how it went; and where it is one of several, how long the others take.
int run_and_tell(const SweepFolder& sweep, const SweepCase& planned,
                 const RegistryFactory& registry, const SweepRunOptions& options,
                 std::ostream& log, Progress* progress = nullptr) {
  log << position(sweep, planned) << "\n";
  const auto start = Clock::now();
  const int code = attempt(sweep, planned, registry, options);
  if (code == kInterrupted) return code;
  char took[32];
  std::snprintf(took, sizeof took, "%.1f s", seconds_since(start));
  const CaseState state = sweep.state(planned);
  log << position(sweep, planned) << ": " << case_status_name(state.status) << ", " << took;
  if (progress != nullptr) log << progress->after_one();
  if (!state.reason.empty()) log << ": " << state.reason;
  log << "\n";
  return code;
}

}  // namespace

int run_sweep(SweepFolder& sweep, const RegistryFactory& registry, const SweepRunOptions& options,
              std::ostream& out, std::ostream& log) {
  const FolderLock lock = sweep.lock_whole();
  sweep.check_identity();
  const std::string lost = sweep.lost_process();
  if (!lost.empty()) log << lost << "\n";
  try {
    if (options.retry_failed) sweep.set_failed_aside();
    sweep.write_status(RunStatus::running, 0);
    Progress progress(sweep.counts().missing);
    const Heartbeat heartbeat([&] { sweep.write_heartbeat(); }, kHeartbeatSeconds);
    for (const SweepCase& planned : sweep.plan().cases) {
      if (sweep.state(planned).status != CaseStatus::missing) continue;
      if (interrupted() ||
          run_and_tell(sweep, planned, registry, options, log, &progress) == kInterrupted) {
        return stop_interrupted(sweep, log);
      }
      sweep.write_progress(sweep.state(planned).status);
    }
    return write_end(sweep, options, out, log);
  } catch (const std::exception& error) {
    try {
      sweep.write_status(RunStatus::failed, 1, error.what());
    } catch (const std::exception&) {
      // The disk takes nothing: sweep.json goes on saying "running" with an old heartbeat.
    }
    log << "The sweep has stopped; what is done is kept. Go on with: kvlab sweep --resume "
        << sweep.path() << "\n";
    throw;
  }
}

int run_sweep_case(SweepFolder& sweep, int64_t index, const RegistryFactory& registry,
                   const SweepRunOptions& options, std::ostream& log) {
  const SweepCase& planned = sweep.at(index);
  if (planned.skipped()) {
    log << position(sweep, planned) << ": skipped: " << planned.reason << "\n";
    return 0;
  }
  const auto locks = sweep.lock_case(planned);
  sweep.check_identity();
  const CaseState state = sweep.state(planned);
  if (state.status == CaseStatus::failed && options.retry_failed) {
    sweep.set_aside(planned);
  } else if (state.status != CaseStatus::missing) {
    log << position(sweep, planned) << ": done before, " << case_status_name(state.status) << "\n";
    return state.status == CaseStatus::ok ? 0 : 1;
  }
  return run_and_tell(sweep, planned, registry, options, log);
}

int aggregate_sweep(SweepFolder& sweep, const SweepRunOptions& options, std::ostream& out,
                    std::ostream& log) {
  const FolderLock lock = sweep.lock_whole();
  for (const SweepCase& planned : sweep.plan().cases) {
    if (sweep.state(planned).status == CaseStatus::missing) {
      log << position(sweep, planned) << ": missing\n";
    }
  }
  return write_end(sweep, options, out, log);
}

}  // namespace kvlab

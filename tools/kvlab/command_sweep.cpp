#include "command_sweep.h"

#include <iostream>
#include <memory>

#include "exit_code.h"
#include "experiment_argument.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/report_writer.h"
#include "kvlab/sweep/slurm_launcher.h"
#include "kvlab/sweep/sweep_runner.h"

namespace kvlab {

namespace {

struct SweepArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<std::string> axes;
  std::vector<std::string> plugins;
  std::string runs = "runs";
  std::string resume;
  bool retry_failed = false;
  bool dry_run = false;
  std::string launcher = "local";
  SlurmOptions slurm;
};

void print_plan(const SweepPlan& plan, std::ostream& out) {
  for (const SweepCase& planned : plan.cases) {
    out << planned.index << "  " << planned.name;
    if (planned.skipped()) {
      out << "  skipped: " << planned.reason;
    } else {
      out << "  " << planned.hash.substr(0, 8);
    }
    out << "\n";
  }
  out << plan.cases.size() << " cases, " << plan.runnable() << " of them run\n";
}

// What became of the cases, and so which of them --resume runs.
void print_state(const SweepFolder& sweep, std::ostream& out) {
  for (const SweepCase& planned : sweep.plan().cases) {
    const CaseState state = sweep.state(planned);
    out << planned.index << "  " << planned.name << "  " << case_status_name(state.status);
    if (!state.reason.empty()) out << ": " << state.reason;
    out << "\n";
  }
  const SweepCounts counts = sweep.counts();
  out << counts.cases << " cases, " << counts.missing << " missing, " << counts.failed
      << " failed\n";
}

void print_skipped(const SweepPlan& plan, std::ostream& log) {
  for (const SweepCase& planned : plan.cases) {
    if (planned.skipped()) {
      log << "skipped case " << planned.index << " (" << planned.name << "): " << planned.reason
          << "\n";
    }
  }
}

// Nobody is at work on a sweep that Slurm has refused, and sweep.json must not say so.
void keep_refused_launch(SweepFolder& sweep, const std::string& reason) {
  try {
    const FolderLock lock = sweep.lock_whole();
    sweep.write_status(RunStatus::failed, kExitUsage, "giving it to Slurm failed: " + reason);
  } catch (const std::exception&) {
    // Tasks that were accepted before are at work, or the disk takes nothing; the reason is printed.
  }
}

int launch(SweepFolder& sweep, const SweepArguments& arguments, const RegistryFactory& registry) {
  if (arguments.launcher == "slurm") {
    {
      const FolderLock lock = sweep.lock_whole();
      sweep.check_identity();
      if (arguments.retry_failed) sweep.set_failed_aside();
      sweep.write_status(RunStatus::running, 0,
                         arguments.slurm.emit_only ? "its job scripts were printed"
                                                   : "given to Slurm");
    }
    try {
      launch_on_slurm(sweep, arguments.slurm, std::cout);
    } catch (const std::exception& error) {
      keep_refused_launch(sweep, error.what());
      throw;
    }
    return kExitOk;
  }
  const ReportOptions renderer = find_renderer(KVLAB_SOURCE_DIR);
  SweepRunOptions options;
  options.renderer_python = renderer.renderer_python;
  options.renderer_script = renderer.renderer_script;
  options.retry_failed = arguments.retry_failed;
  return run_sweep(sweep, registry, options, std::cout, std::cerr);
}

int run_sweep_command(const SweepArguments& arguments, const std::vector<std::string>& argv) {
  const RegistryFactory registry = [&] { return open_registry(arguments.plugins); };
  KVLAB_CHECK(arguments.config.empty() != arguments.resume.empty(),
              "[command_line.sweep] give a config to sweep over, or --resume FOLDER, one of both");
  KVLAB_CHECK(arguments.resume.empty() || (arguments.axes.empty() && arguments.overrides.empty()),
              "[command_line.sweep] what a sweep varies was fixed when it was planned; leave the "
              "overrides out, or start a new sweep");
  KVLAB_CHECK(!arguments.slurm.emit_only || arguments.launcher == "slurm",
              "[command_line.sweep] --emit-only prints what Slurm would get; add --launcher slurm, "
              "or take --dry-run to see the plan");
  handle_interrupts();
  if (!arguments.resume.empty()) {
    SweepFolder sweep(arguments.resume);
    if (arguments.dry_run) {
      print_state(sweep, std::cout);
      return kExitOk;
    }
    return launch(sweep, arguments, registry);
  }
  const std::string config = find_experiment(arguments.config);
  if (arguments.dry_run) {
    print_plan(plan_sweep(config, arguments.overrides, arguments.axes, registry,
                          [](const SweepCase&, const ConfigNode& node) { return to_yaml(node); }),
               std::cout);
    return kExitOk;
  }
  const auto sweep = SweepFolder::create(arguments.runs, config, arguments.overrides,
                                         arguments.axes, argv, registry);
  std::cout << "Sweep: " << sweep->path() << "\n" << std::flush;
  print_skipped(sweep->plan(), std::cerr);
  return launch(*sweep, arguments, registry);
}

}  // namespace

void add_sweep_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "sweep", "Run an experiment file for many values, planned before the first one runs.");
  const auto arguments = std::make_shared<SweepArguments>();
  command->add_option("config", arguments->config,
                      "The experiment's YAML, or its name in configs/experiments");
  command->add_option("overrides", arguments->overrides,
                      "key=value for all cases, applied in order");
  command->add_option("-m,--vary", arguments->axes,
                      "key=value,value,... or key=range(start,stop,step); several multiply");
  add_plugin_option(*command, arguments->plugins);
  command->add_option("--runs", arguments->runs, "The folder that holds the runs")
      ->capture_default_str();
  command->add_option("--resume", arguments->resume, "Run the missing cases of this sweep's folder");
  command->add_flag("--retry-failed", arguments->retry_failed, "Run failed cases again as well");
  command->add_flag("--dry-run", arguments->dry_run, "Print the plan, or with --resume what is missing, and run nothing");
  command->add_option("--launcher", arguments->launcher, "local: here, one case after another")
      ->check(CLI::IsMember({"local", "slurm"}))
      ->capture_default_str();
  SlurmOptions& slurm = arguments->slurm;
  command->add_option("--partition", slurm.partition, "Of Slurm")->group("Slurm");
  command->add_option("--time", slurm.time, "Longest time of one case, as sbatch takes it")
      ->group("Slurm");
  command->add_option("--array-parallelism", slurm.array_parallelism, "Most cases at once; 0: any")
      ->check(CLI::NonNegativeNumber)
      ->group("Slurm");
  command
      ->add_option("--cpus-per-task", slurm.cpus_per_task,
                   "Of one case; 0: the threads of the largest")
      ->check(CLI::NonNegativeNumber)
      ->group("Slurm");
  command->add_flag("--emit-only", slurm.emit_only, "Print the job scripts and submit nothing")
      ->group("Slurm");
  command->callback([arguments, &invocation] {
    invocation.run = [arguments, argv = invocation.argv] {
      return run_sweep_command(*arguments, argv);
    };
  });
}

}  // namespace kvlab

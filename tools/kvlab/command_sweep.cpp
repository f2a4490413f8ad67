#include "command_sweep.h"

#include <iostream>
#include <memory>

#include "exit_code.h"
#include "experiment_argument.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
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

void print_skipped(const SweepPlan& plan, std::ostream& log) {
  for (const SweepCase& planned : plan.cases) {
    if (planned.skipped()) {
      log << "skipped case " << planned.index << " (" << planned.name << "): " << planned.reason
          << "\n";
    }
  }
}

int run_sweep_command(const SweepArguments& arguments, const std::vector<std::string>& argv) {
  const RegistryFactory registry = [&] { return open_registry(arguments.plugins); };
  KVLAB_CHECK(arguments.config.empty() != arguments.resume.empty(),
              "[command_line.sweep] give a config to sweep over, or --resume FOLDER, one of both");
  KVLAB_CHECK(arguments.resume.empty() || (arguments.axes.empty() && arguments.overrides.empty()),
              "[command_line.sweep] what a sweep varies was fixed when it was planned; leave the "
              "overrides out, or start a new sweep");
  handle_interrupts();
  SweepRunOptions options;
  options.retry_failed = arguments.retry_failed;
  if (!arguments.resume.empty()) {
    SweepFolder sweep(arguments.resume);
    return run_sweep(sweep, registry, options, std::cout, std::cerr);
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
  return run_sweep(*sweep, registry, options, std::cout, std::cerr);
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
  command->add_flag("--dry-run", arguments->dry_run, "Print the plan and run nothing");
  command->callback([arguments, &invocation] {
    invocation.run = [arguments, argv = invocation.argv] {
      return run_sweep_command(*arguments, argv);
    };
  });
}

}  // namespace kvlab

#include "command_run.h"

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string_view>

#include "exit_code.h"
#include "experiment_argument.h"
#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/report_writer.h"
#include "print_config.h"

namespace kvlab {

namespace {

struct RunArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<std::string> plugins;
  std::string runs = "runs";
  PrintConfigOptions print;
};

// Whether an experiment runs now: a plugin that calls exit() must not look like success.
bool running = false;

void report_early_exit() {
  if (!running) return;
  constexpr std::string_view kText =
      "\nkvlab: [run] something called exit() while the experiment ran, so it has failed. With "
      "isolation: process the report names the arm\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kText.data(), kText.size());
  ::_exit(kExitFailed);
}

struct RunningMark {
  RunningMark() { running = true; }
  ~RunningMark() { running = false; }
};

int run_run(const RunArguments& arguments, const std::vector<std::string>& argv) {
  Registry registry = open_registry(arguments.plugins);
  if (arguments.print.print) {
    print_config(arguments.config, arguments.overrides, registry, arguments.print);
    return kExitOk;
  }
  LoadedExperiment loaded = open_experiment(arguments.config, arguments.overrides, registry);
  const ReportOptions renderer = find_renderer(KVLAB_SOURCE_DIR);
  RunOptions options;
  options.runs_folder = arguments.runs;
  options.argv = argv;
  options.overrides = arguments.overrides;
  options.renderer_python = renderer.renderer_python;
  options.renderer_script = renderer.renderer_script;
  handle_interrupts();
  std::atexit(report_early_exit);
  const RunningMark mark;
  return run_experiment(loaded, registry, options, std::cout, std::cerr);
}

}  // namespace

void add_run_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "run", "Run an experiment file; results and report go into a folder of their own.");
  const auto arguments = std::make_shared<RunArguments>();
  command
      ->add_option("config", arguments->config,
                   "The experiment's YAML, or its name in configs/experiments")
      ->required();
  command->add_option("overrides", arguments->overrides, "key=value, applied in order");
  add_plugin_option(*command, arguments->plugins);
  command->add_option("--runs", arguments->runs, "The folder that holds the runs")
      ->capture_default_str();
  add_print_config_options(*command, arguments->print);
  command->callback([arguments, &invocation] {
    invocation.run = [arguments, argv = invocation.argv] { return run_run(*arguments, argv); };
  });
}

}  // namespace kvlab

#include "command_worker.h"

#include <iostream>
#include <memory>

#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/report_writer.h"
#include "kvlab/sweep/sweep_runner.h"

namespace kvlab {

namespace {

struct WorkerArguments {
  std::string sweep;
  int64_t index = -1;
  bool aggregate = false;
  bool retry_failed = false;
  std::vector<std::string> plugins;
};

int run_worker(const WorkerArguments& arguments) {
  KVLAB_CHECK((arguments.index >= 0) != arguments.aggregate,
              "[command_line.worker] give --index N or --aggregate, one of both");
  handle_interrupts();
  SweepFolder sweep(arguments.sweep);
  const ReportOptions renderer = find_renderer(KVLAB_SOURCE_DIR);
  SweepRunOptions options;
  options.renderer_python = renderer.renderer_python;
  options.renderer_script = renderer.renderer_script;
  if (arguments.aggregate) return aggregate_sweep(sweep, options, std::cout, std::cerr);
  options.retry_failed = arguments.retry_failed;
  return run_sweep_case(
      sweep, arguments.index, [&] { return open_registry(arguments.plugins); }, options, std::cerr);
}

}  // namespace

void add_worker_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("worker", "Run one case of a planned sweep, or merge those that are done.");
  const auto arguments = std::make_shared<WorkerArguments>();
  command->add_option("sweep", arguments->sweep, "The folder of the sweep")->required();
  command->add_option("--index", arguments->index, "The case, from 0 as in plan.jsonl")
      ->check(CLI::NonNegativeNumber);
  command->add_flag("--aggregate", arguments->aggregate, "Write table.csv, results.sqlite, the report and the sweep's status");
  command->add_flag("--retry-failed", arguments->retry_failed, "Run the case again if it failed");
  add_plugin_option(*command, arguments->plugins);
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_worker(*arguments); };
  });
}

}  // namespace kvlab

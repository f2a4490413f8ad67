#include "command_power.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>

#include "exit_code.h"
#include "json_output.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_trials.h"
#include "kvlab/runtime/power_simulation.h"

namespace kvlab {

namespace {

struct PowerArguments {
  std::string run, arm;
  PowerOptions options;
  bool json = false;
};

std::string rate_text(const Rate& rate) {
  return fmt::format("{:.1f} % [{:.1f}, {:.1f}]", 100 * rate.rate, 100 * rate.low, 100 * rate.high);
}

Json rate_json(const Rate& rate) {
  return {{"rate", rate.rate}, {"low", rate.low}, {"high", rate.high}, {"n", rate.n}};
}

int run_power(const PowerArguments& arguments) {
  const std::filesystem::path file = std::filesystem::path(arguments.run) / "samples.jsonl";
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored)) {
    throw MissingError("[command_line.power] '" + file.string() +
                       "' does not exist; give the folder of a run of generation_benchmark");
  }
  const RecordedTimes times = read_recorded_times(file.string(), arguments.arm);
  PowerOptions options = arguments.options;
  if (options.blocks == 0) options.blocks = std::min(kComparedRepeats, most_blocks(times));
  const Power power = simulate_power(times, options);
  if (arguments.json) {
    print_json({{"samples", times.ns.size()},
                {"what", times.what},
                {"blocks", options.blocks},
                {"slowdown", options.slowdown},
                {"false_alarms", rate_json(power.false_alarms)},
                {"found", rate_json(power.found)},
                {"refused", rate_json(power.refused)}});
    return kExitOk;
  }
  std::cout << fmt::format(
      "{} recorded runs of the same code ({})\n"
      "{} simulated comparisons of {} blocks, each from a contiguous stretch; 95 % intervals\n"
      "  called different though it is the same:   {}\n"
      "  a planted slowdown of {:g} called slower:  {}\n"
      "  refused a verdict:                        {}\n",
      times.ns.size(), times.what, options.trials, options.blocks,
      rate_text(power.false_alarms), options.slowdown, rate_text(power.found),
      rate_text(power.refused));
  return kExitOk;
}

}  // namespace

void add_power_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "power", "Simulate how often verdicts are wrong, from the samples of a run.");
  const auto arguments = std::make_shared<PowerArguments>();
  arguments->options.blocks = 0;
  command
      ->add_option("run_folder", arguments->run,
                   "Folder of a generation_benchmark run whose control was measured twice")
      ->required();
  command->add_option("--arm", arguments->arm, "Arm measured twice (default: the one there is)");
  command->add_option("--blocks", arguments->options.blocks, fmt::format("Blocks of a simulated comparison (default: as many as the recording has for "
                              "one, but no more than {})", kComparedRepeats))
      ->check(CLI::Range(1, 1000));
  command->add_option("--trials", arguments->options.trials, "Simulated comparisons")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  command->add_option("--slowdown", arguments->options.slowdown, "Planted factor on the arm's time")
      ->check(CLI::Range(1.0001, 10.0))
      ->capture_default_str();
  command->add_option("--seed", arguments->options.seed, "Of the stretches and the order in blocks")
      ->capture_default_str();
  command->add_flag("--json", arguments->json, "Print one line of JSON");
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_power(*arguments); };
  });
}

}  // namespace kvlab

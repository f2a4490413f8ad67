#include "command_arm_process.h"

#include <memory>
#include <optional>

#include "kvlab/runtime/arm_process.h"
#include "kvlab/runtime/experiment.h"

namespace kvlab {

namespace {

struct ArmProcessArguments {
  std::string config, arm;
  pid_t parent = 0;
  std::optional<int64_t> memory;
};

int run_arm_process(const ArmProcessArguments& arguments) {
  // The service lives in what these hold.
  Registry registry = builtin_registry();
  std::optional<LoadedExperiment> loaded;
  return serve_arm_process({arguments.parent, arguments.memory}, [&] {
    loaded.emplace(load_experiment(arguments.config, {}, registry));
    return loaded->experiment->serve_arm(arguments.arm, registry);
  });
}

}  // namespace

void add_arm_process_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("arm-process", "Serve one arm of a run that started this.");
  command->group("");  // started by programs, not by people
  const auto arguments = std::make_shared<ArmProcessArguments>();
  command->add_option("--config", arguments->config, "The run's resolved config")->required();
  command->add_option("--arm", arguments->arm, "The arm's name")->required();
  command->add_option("--parent", arguments->parent, "The run's process")->required();
  command->add_option("--memory", arguments->memory, "Bytes it may take once it is loaded");
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_arm_process(*arguments); };
  });
}

}  // namespace kvlab

#include "command_validate.h"

#include <iostream>
#include <memory>

#include "exit_code.h"
#include "experiment_argument.h"

namespace kvlab {

namespace {

struct ValidateArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<std::string> plugins;
};

int run_validate(const ValidateArguments& arguments) {
  Registry registry = open_registry(arguments.plugins);
  (void)open_experiment(arguments.config, arguments.overrides, registry);
  std::cout << arguments.config << ": ok\n";
  return kExitOk;
}

}  // namespace

void add_validate_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("validate", "Check an experiment file without running it.");
  const auto arguments = std::make_shared<ValidateArguments>();
  command
      ->add_option("config", arguments->config,
                   "The experiment's YAML, or its name in configs/experiments")
      ->required();
  command->add_option("overrides", arguments->overrides, "key=value, applied in order");
  add_plugin_option(*command, arguments->plugins);
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_validate(*arguments); };
  });
}

}  // namespace kvlab

#include "command_schema.h"

#include <iostream>
#include <memory>

#include "exit_code.h"
#include "kvlab/runtime/json_schema.h"

namespace kvlab {

namespace {

struct SchemaArguments {
  std::string kind;
  std::string part = "experiment";
  std::vector<std::string> plugins;
};

std::string schema_of(const SchemaArguments& arguments, const Registry& registry) {
  if (arguments.part == "model") return model_schema(registry);
  if (arguments.part == "cache") return cache_schema(registry);
  return experiment_schema(registry, arguments.kind);
}

int run_schema(const SchemaArguments& arguments) {
  const Registry registry = open_registry(arguments.plugins);
  std::cout << schema_of(arguments, registry);
  return kExitOk;
}

}  // namespace

void add_schema_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("schema", "Print the JSON Schema of config files, for editors.");
  const auto arguments = std::make_shared<SchemaArguments>();
  CLI::Option* kind = command->add_option(
      "--kind", arguments->kind, "Only experiments of this kind (default: all kinds in one)");
  command->add_option("--part", arguments->part, "Which files: experiment, model or cache")
      ->check(CLI::IsMember({"experiment", "model", "cache"}))
      ->capture_default_str()
      ->excludes(kind);
  add_plugin_option(*command, arguments->plugins);
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_schema(*arguments); };
  });
}

}  // namespace kvlab

#include "print_config.h"

#include <filesystem>
#include <iostream>

#include "experiment_argument.h"
#include "kvlab/runtime/config_origin.h"
#include "kvlab/runtime/config_schema.h"

namespace kvlab {

void add_print_config_options(CLI::App& command, PrintConfigOptions& options) {
  CLI::Option* print = command.add_flag("--print-config", options.print,
                                        "Print the config with files and overrides followed, and "
                                        "do no more");
  command
      .add_flag("--origin", options.origin,
                "With --print-config: where each value came from, and the defaults")
      ->needs(print);
}

void print_config(const std::string& argument, const std::vector<std::string>& overrides,
                  Registry& registry, bool origin) {
  const auto asked = std::make_shared<MapSchema>();
  ConfigNode root;
  std::string kind;
  {
    const SchemaRecording recording(asked, false);
    const LoadedExperiment loaded = open_experiment(argument, overrides, registry);
    root = loaded.config.root;
    kind = loaded.config.kind;
  }
  if (origin) {
    std::cout << to_yaml_with_origin(root, registry, *asked,
                                     record_config_schema(registry, kind));
  } else {
    // Paths are such that the text can be stored and run in the current folder.
    std::cout << to_yaml(root, (std::filesystem::current_path() / "config.yaml").string());
  }
}

}  // namespace kvlab

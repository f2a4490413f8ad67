#include "print_config.h"

#include <filesystem>
#include <iostream>

#include "experiment_argument.h"
#include "kvlab/runtime/config_origin.h"
#include "kvlab/runtime/config_schema.h"
#include "named_config.h"
#include "sweep_cases.h"

namespace kvlab {

void add_print_config_options(CLI::App& command, PrintConfigOptions& options) {
  CLI::Option* print = command.add_flag("--print-config", options.print,
                                        "Print the config with files and overrides followed, and "
                                        "do no more");
  command
      .add_flag("--origin", options.origin,
                "With --print-config: where each value came from, and the defaults")
      ->needs(print);
  command
      .add_option("--case", options.case_index,
                  "With --print-config: this case of a file with sweep:, counted from 0")
      ->check(CLI::NonNegativeNumber)
      ->needs(print);
}

namespace {

// The first case that can be opened says what its kind reads. Throws where there is none.
LoadedExperiment open_first_case(const std::string& argument,
                                 const std::vector<std::vector<std::string>>& cases,
                                 Registry& registry) {
  for (size_t i = 0;; ++i) {
    try {
      return open_experiment(argument, cases[i], registry);
    } catch (const UserError&) {
      if (i + 1 == cases.size()) throw;
    }
  }
}

}  // namespace

void print_config(const std::string& argument, const std::vector<std::string>& overrides,
                  Registry& registry, const PrintConfigOptions& options) {
  const std::string path = find_experiment(argument);
  std::vector<std::string> applied = overrides;
  if (options.case_index >= 0) applied = overrides_of_case(path, overrides, options.case_index);
  const auto cases = open_config(ConfigKind::experiment, path,
                                 [&] { return sweep_case_overrides(path, applied); });
  const auto asked = std::make_shared<MapSchema>();
  ConfigNode root;
  std::string kind;
  {
    const SchemaRecording recording(asked, false);
    const LoadedExperiment loaded = cases ? open_first_case(argument, *cases, registry)
                                          : open_experiment(argument, applied, registry);
    root = cases ? load_config_file(path, applied) : loaded.config.root;
    kind = loaded.config.kind;
  }
  if (options.origin) {
    std::cout << to_yaml_with_origin(root, registry, *asked,
                                     record_config_schema(registry, kind));
  } else {
    // Paths are such that the text can be stored and run in the current folder.
    std::cout << to_yaml(root, (std::filesystem::current_path() / "config.yaml").string());
  }
}

}  // namespace kvlab

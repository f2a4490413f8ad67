#include "experiment_argument.h"

#include <filesystem>

#include "kvlab/core/error.h"
#include "named_config.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

}  // namespace

std::string find_experiment(const std::string& argument) {
  KVLAB_CHECK(!argument.empty(), "[command_line.config] the name is empty");
  std::error_code ignored;
  if (fs::is_regular_file(argument, ignored)) return argument;
  if (const auto named = find_named_config(ConfigKind::experiment, argument)) return *named;
  if (fs::exists(argument, ignored) || fs::path(argument).has_extension()) return argument;
  throw MissingError(detail::concat(
      "[command_line.config] '", argument,
      "' does not exist. Give an experiment's YAML, or the name of one in configs/experiments.",
      suggestion(argument, named_configs(ConfigKind::experiment))));
}

LoadedExperiment open_experiment(const std::string& argument,
                                 const std::vector<std::string>& overrides,
                                 Registry& registry) {
  const std::string path = find_experiment(argument);
  return open_config(ConfigKind::experiment, path,
                     [&] { return load_experiment(path, overrides, registry); });
}

}  // namespace kvlab

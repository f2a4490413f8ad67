#include "command_validate.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "exit_code.h"
#include "experiment_argument.h"
#include "kvlab/runtime/config_check.h"
#include "named_config.h"
#include "print_config.h"
#include "sweep_cases.h"

namespace kvlab {

namespace {

struct ValidateArguments {
  std::vector<std::string> words;
  std::vector<std::string> plugins;
  PrintConfigOptions print;
};

// A word that sets a key, as run takes it after the config. A file may have such a name.
bool is_override(const std::string& word) {
  std::error_code ignored;
  if (std::filesystem::exists(word, ignored)) return false;
  return word.starts_with('+') || word.starts_with('~') || word.find('=') != std::string::npos;
}

// What reading a sweep itself finds wrong.
std::vector<ConfigProblem> problems_of(const UserError& error) {
  if (const auto* placed = dynamic_cast<const ConfigError*>(&error)) return placed->problems();
  return {{"", "", error.what()}};
}

std::vector<ConfigProblem> find_problems(const std::string& config, const std::string& path,
                                         const std::vector<std::string>& overrides,
                                         const ValidateArguments& arguments, Registry& registry) {
  std::optional<std::vector<std::vector<std::string>>> cases;
  try {
    cases = sweep_case_overrides(path, overrides);
  } catch (const MissingError&) {
    throw;
  } catch (const UserError& error) {
    return problems_of(error);
  }
  if (cases) {
    return check_sweep_cases(config, path, overrides, *cases, arguments.print.print,
                             [&] { return open_registry(arguments.plugins); });
  }
  std::vector<ConfigProblem> problems = check_experiment(path, overrides, registry);
  if (problems.empty() && !arguments.print.print) std::cout << config << ": ok" << std::endl;
  return problems;
}

// Prints what is wrong with one file, and returns how much that is.
std::vector<ConfigProblem> check(const std::string& config,
                                 const std::vector<std::string>& overrides,
                                 const ValidateArguments& arguments) {
  // A registry of its own: one file's plugins are not there for the next.
  Registry registry = open_registry(arguments.plugins);
  std::string path;
  std::vector<ConfigProblem> problems;
  try {
    path = find_experiment(config);
    problems = find_problems(config, path, overrides, arguments, registry);
  } catch (const MissingError& error) {
    // One file that is not there says nothing about the next ones.
    problems = {{"", "", error.what(), true}};
  }
  if (problems.empty() && arguments.print.print) {
    print_config(config, overrides, registry, arguments.print);
  }
  if (problems.empty()) return problems;
  for (const ConfigProblem& problem : problems) std::cerr << problem.message << "\n";
  const std::string hint = path.empty() ? "" : other_kind_hint(ConfigKind::experiment, path);
  std::cerr << config << ": " << problems.size() << (problems.size() == 1 ? " error" : " errors")
            << hint << "\n";
  return problems;
}

int run_validate(const ValidateArguments& arguments) {
  std::vector<std::string> configs, overrides;
  for (const std::string& word : arguments.words) {
    (is_override(word) ? overrides : configs).push_back(word);
  }
  KVLAB_CHECK(!configs.empty(),
              "[command_line.config] no config is named; write kvlab validate CONFIG [key=value]");
  int code = kExitOk;
  for (const std::string& config : configs) {
    const std::vector<ConfigProblem> problems = check(config, overrides, arguments);
    if (problems.empty()) continue;
    const bool missing = std::all_of(problems.begin(), problems.end(),
                                     [](const ConfigProblem& problem) { return problem.missing; });
    code = missing && code != kExitUsage ? kExitMissing : kExitUsage;
  }
  return code;
}

}  // namespace

void add_validate_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "validate",
      "Check experiment files, and all cases of sweeps, without running them; all errors are "
      "printed.");
  const auto arguments = std::make_shared<ValidateArguments>();
  command
      ->add_option("configs", arguments->words,
                   "Experiment YAML files, or names in configs/experiments; then key=value "
                   "overrides, applied in order to each")
      ->required()
      ->option_text("CONFIG... [KEY=VALUE...]");
  add_plugin_option(*command, arguments->plugins);
  add_print_config_options(*command, arguments->print);
  command->callback([arguments, &invocation] {
    invocation.run = [arguments] { return run_validate(*arguments); };
  });
}

}  // namespace kvlab

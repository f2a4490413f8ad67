#include "command_plugin.h"

#include <filesystem>
#include <iomanip>
#include <iostream>
#include <memory>

#include "exit_code.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/child_process.h"
#include "kvlab/runtime/plugin_loader.h"
#include "started_program.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

struct CheckArguments {
  std::string file;
  std::vector<std::string> names;
  int64_t operations = 0;
  CLI::Option* operations_option = nullptr;
};

template <typename Entry>
void print_entries(const std::vector<Entry>& entries, const LoadedPlugin& plugin,
                   const char* kind) {
  for (const Entry& entry : entries) {
    if (entry.origin != plugin.file) continue;
    std::cout << "    " << kind << " " << entry.info.name << "  " << entry.info.summary << "\n";
  }
}

int run_show(const std::string& file) {
  Registry registry = builtin_registry();
  const LoadedPlugin plugin = load_plugin(registry, file);
  std::cout << "plugin " << plugin.name << " " << plugin.version << "\n  file: " << plugin.file
            << "\n  hash: " << plugin.hash << "\n  fits this program\n";
  for (const FingerprintField& field : compare_fingerprint(program_description())) {
    std::cout << "    " << std::left << std::setw(18) << field.name << field.found << "\n";
  }
  std::cout << "  registers\n";
  print_entries(registry.caches(), plugin, "cache");
  print_entries(registry.attentions(), plugin, "attention");
  print_entries(registry.positions(), plugin, "position");
  print_entries(registry.experiments(), plugin, "experiment");
  return kExitOk;
}

// Runs a program and passes on what it prints. `last_line` is where that ended.
ProgramEnd run_step(const std::vector<std::string>& arguments, std::string& last_line) {
  return run_started_program(arguments, [&](std::string_view line) {
    std::cout << line << std::endl;
    last_line = line;
  });
}

int report_signal(const std::string& what, int signal) {
  std::cerr << "kvlab: [command_line.plugin] " << what << " ended with " << describe_signal(signal)
            << "\n";
  return kExitFailed;
}

// In a process of its own: what crashes while it is loaded shall be reported, too.
int run_show_apart(const std::string& own, const std::string& file) {
  std::string last_line;
  const ProgramEnd end = run_step({own, "plugin", "show", "--", file}, last_line);
  return end.signal == 0 ? end.exit_code : report_signal("loading " + file, end.signal);
}

// The program itself names the test in which it ends early.
int run_conformance(const std::vector<std::string>& command, const std::string& file) {
  std::string last_line;
  const ProgramEnd end = run_step(command, last_line);
  if (end.signal != 0) return report_signal("the conformance tests of " + file, end.signal);
  if (end.exit_code == kExitOk && !last_line.ends_with(" left out")) {
    std::cerr << "kvlab: [command_line.plugin] the conformance tests of " << file
              << " ended before their table was there\n";
    return kExitFailed;
  }
  return end.exit_code == kExitOk || end.exit_code == kExitUsage ? end.exit_code : kExitFailed;
}

int run_check(const CheckArguments& arguments) {
  const std::string own = own_program();
  const std::string tests = (fs::path(own).parent_path() / "kvlab_conformance_tests").string();
  const int shown = run_show_apart(own, arguments.file);
  if (shown != kExitOk) return shown;
  std::error_code ignored;
  if (!fs::exists(tests, ignored)) {
    throw MissingError(detail::concat("[command_line.plugin] there is no '", tests,
                                      "'; build the target kvlab_conformance_tests, or install a "
                                      "kvlab that was built with KVLAB_BUILD_CONFORMANCE=ON"));
  }
  std::vector<std::string> command = {tests, "--plugin", fs::canonical(arguments.file).string(),
                                      "--table"};
  if (arguments.operations_option->count() > 0) {
    command.insert(command.end(), {"--operations", std::to_string(arguments.operations)});
  }
  for (const std::string& name : arguments.names) {
    command.insert(command.end(), {"--only", name});
  }
  return run_conformance(command, arguments.file);
}

}  // namespace

void add_plugin_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("plugin", "Show or check a plugin library.");
  command->require_subcommand(1);

  CLI::App* show = command->add_subcommand(
      "show", "What a plugin library says about itself, whether it fits, and what it registers.");
  const auto file = std::make_shared<std::string>();
  show->add_option("file", *file, "The .so")->required();
  show->callback([file, &invocation] { invocation.run = [file] { return run_show(*file); }; });

  CLI::App* check = command->add_subcommand(
      "check", "Show a plugin library, then run the conformance tests on what it registers.");
  check->footer(
      "Exit codes: 0 all passed, 1 a test failed or crashed, 2 the library is refused, 4 it is\n"
      "missing. Each part runs in a process of its own.");
  const auto arguments = std::make_shared<CheckArguments>();
  check->add_option("file", arguments->file, "The .so")->required();
  check->add_option("--only", arguments->names, "Check only this name; may be repeated")
      ->allow_extra_args(false);
  arguments->operations_option =
      check->add_option("--operations", arguments->operations, "Random operations per cache")
          ->check(CLI::PositiveNumber);
  check->callback(
      [arguments, &invocation] { invocation.run = [arguments] { return run_check(*arguments); }; });
}

}  // namespace kvlab

#include "command_plugin.h"

#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <memory>

#include "exit_code.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/child_process.h"
#include "kvlab/runtime/plugin_loader.h"
#include "kvlab/runtime/process.h"
#include "started_program.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

struct CheckArguments {
  std::string file;
  std::vector<std::string> names;
  int64_t operations = 0;
  CLI::Option* operations_option = nullptr;
  double seconds = 1800;
};

constexpr const char* kNothingToCheck =
    "  there is nothing to check: no cache, attention or position";

// Returns how many there are.
template <typename Entry>
int print_entries(const std::vector<Entry>& entries, const LoadedPlugin& plugin,
                  const char* kind) {
  int count = 0;
  for (const Entry& entry : entries) {
    if (entry.origin != plugin.file) continue;
    std::cout << "    " << kind << " " << entry.info.name << "  " << entry.info.summary << "\n";
    ++count;
  }
  return count;
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
  int checked = print_entries(registry.caches(), plugin, "cache");
  checked += print_entries(registry.attentions(), plugin, "attention");
  checked += print_entries(registry.positions(), plugin, "position");
  print_entries(registry.experiments(), plugin, "experiment");
  if (checked == 0) std::cout << kNothingToCheck << "\n";
  return kExitOk;
}

// The programs of one check: one after the other, until the time of all is over.
class Check {
 public:
  explicit Check(const CheckArguments& arguments)
      : arguments_(arguments),
        deadline_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                     std::chrono::duration<double>(arguments.seconds))) {}

  /// Loads the library. In a process of its own: what crashes there shall be reported, too.
  int show(const std::string& own) {
    return run({own, "plugin", "show", "--", arguments_.file}, "loading ");
  }
  bool nothing_to_check() const { return last_line_ == kNothingToCheck; }

  /// The program itself names the test in which it ends early.
  int test(const std::vector<std::string>& command) {
    constexpr const char* kWhat = "the conformance tests of ";
    const int code = run(command, kWhat);
    if (code == kExitOk && !last_line_.ends_with(" left out")) {
      return report(kWhat, "ended before their table was there");
    }
    return code == kExitOk || code == kExitUsage ? code : kExitFailed;
  }

 private:
  using Clock = ChildProcess::Clock;

  // Runs a program and passes on what it prints. `last_line_` is where that ended.
  int run(const std::vector<std::string>& command, const std::string& what) {
    last_line_.clear();
    const ChildEnd end = run_started_program(command, deadline_, [&](std::string_view line) {
      std::cout << line << std::endl;
      last_line_ = line;
    });
    if (end.stopped) {
      return report(what, detail::concat("was stopped: the check took longer than ",
                                         arguments_.seconds, " s; --seconds gives it more"));
    }
    if (end.signal != 0) return report(what, "ended with " + describe_signal(end.signal));
    return end.exit_code;
  }

  int report(const std::string& what, const std::string& how) const {
    std::cerr << "kvlab: [command_line.plugin] " << what << arguments_.file << " " << how << "\n";
    return kExitFailed;
  }

  const CheckArguments& arguments_;
  Clock::time_point deadline_;
  std::string last_line_;
};

int run_check(const CheckArguments& arguments) {
  handle_interrupts();
  const std::string own = own_program();
  const std::string tests = (fs::path(own).parent_path() / "kvlab_conformance_tests").string();
  Check check(arguments);
  const int shown = check.show(own);
  if (shown != kExitOk || check.nothing_to_check()) return shown;
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
  return check.test(command);
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
      "Exit codes: 0 all passed, 1 a test failed, crashed or took too long, 2 the library is\n"
      "refused, 4 it is missing. Each part runs in a process of its own.");
  const auto arguments = std::make_shared<CheckArguments>();
  check->add_option("file", arguments->file, "The .so")->required();
  check->add_option("--only", arguments->names, "Check only this name; may be repeated")
      ->allow_extra_args(false);
  arguments->operations_option =
      check->add_option("--operations", arguments->operations, "Random operations per cache")
          ->check(CLI::PositiveNumber);
  check->add_option("--seconds", arguments->seconds, "Time for the whole check")
      ->check(CLI::Range(0.001, 1e6))
      ->capture_default_str();
  check->callback(
      [arguments, &invocation] { invocation.run = [arguments] { return run_check(*arguments); }; });
}

}  // namespace kvlab

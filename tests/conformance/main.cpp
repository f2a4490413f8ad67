// The conformance program: the kit over the plugins of this build and over plugin libraries, replay
// files and golden traces.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>

#include "kvlab/conformance/golden_trace.h"
#include "kvlab/conformance/random_operations.h"
#include "kvlab/conformance/suite.h"
#include "kvlab/core/error.h"
#include "kvlab/kernels/target.h"
#include "kvlab/runtime/plugin_loader.h"
#include "kvlab/runtime/process.h"
#include "tests/conformance/program_flags.h"
#include "tests/conformance/table_listener.h"

namespace kvlab::conformance {
namespace {

/// Names of the kinds of plugins that the kit tests.
std::vector<std::string> tested_names(const Registry& registry) {
  std::vector<std::string> names;
  for (const CacheEntry& entry : registry.caches()) names.push_back(entry.info.name);
  for (const AttentionEntry& entry : registry.attentions()) names.push_back(entry.info.name);
  for (const PositionEntry& entry : registry.positions()) names.push_back(entry.info.name);
  return names;
}

// Those of the libraries, or those asked for; empty: all.
std::vector<std::string> load_and_choose(const ProgramFlags& flags, Registry& registry) {
  const std::vector<std::string> built_in = tested_names(registry);
  load_plugins(registry, flags.plugins);
  const std::vector<std::string> all = tested_names(registry);
  std::vector<std::string> chosen = flags.only;
  for (const std::string& name : chosen) {
    if (std::find(all.begin(), all.end(), name) != all.end()) continue;
    throw MissingError("[conformance] --only names an unknown plugin '" + name + "'." +
                       suggestion(name, all));
  }
  if (!chosen.empty() || flags.plugins.empty()) return chosen;
  for (const std::string& name : all) {
    if (std::find(built_in.begin(), built_in.end(), name) == built_in.end()) chosen.push_back(name);
  }
  KVLAB_CHECK(!chosen.empty(),
              "[conformance] the plugin libraries register no cache, attention or position");
  return chosen;
}

int run_replay(const Registry& registry, const std::string& file) {
  std::ifstream stream(file);
  const std::string text((std::istreambuf_iterator<char>(stream)), {});
  if (!stream.is_open() || stream.bad() || std::filesystem::is_directory(file)) {
    throw MissingError("[conformance] cannot read the replay file '" + file + "'");
  }
  const Replay replay = read_replay(text);
  registry.cache_options(parse_component_spec(replay.chosen.spec));  // an unknown cache is no failure
  std::cout << "cache " << replay.chosen.spec << ", case " << replay.chosen.name << "\n";
  size_t width = 0;
  for (const Operation& operation : replay.operations) {
    width = std::max(width, to_text(operation).size());
  }
  int64_t number = 0;
  const auto print = [&](const Operation& operation, const std::vector<int64_t>& lengths,
                         const std::string* failure) {
    std::cout << std::right << std::setw(6) << ++number << "  " << std::left
              << std::setw(static_cast<int>(width)) << to_text(operation) << "  lengths";
    for (const int64_t length : lengths) std::cout << " " << length;
    std::cout << (failure == nullptr ? "  passed" : "  FAILED") << std::endl;
  };
  const OperationRun run = run_operations(registry, replay.chosen, replay.operations, print);
  if (run.failure) {
    std::cout << "\nfailed: " << *run.failure << "\n";
    return 1;
  }
  std::cout << "\n" << run.passed << " operations passed\n";
  return 0;
}

void write_file(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream stream(file, std::ios::binary);
  stream << text;
  stream.close();
  KVLAB_CHECK(!stream.fail(), "[conformance] cannot write ", file.string());
  std::cout << "wrote " << file.string() << "\n";
}

// What is kept beside the plugins, in the folders they have in the repository.
void write_kept_files(const Registry& registry, const std::vector<std::string>& chosen,
                      const std::filesystem::path& folder) {
  const auto is_wanted = [&](const std::string& name) {
    return chosen.empty() || std::find(chosen.begin(), chosen.end(), name) != chosen.end();
  };
  const auto write_left_out = [&](const std::string& kind, const std::string& suite,
                                  const std::string& name) {
    const std::string text = left_out_text(registry, suite, name);
    if (!text.empty()) write_file(folder / kind / name / kLeftOutFile, text);
  };
  for (const CacheEntry& entry : registry.caches()) {
    const std::string& name = entry.info.name;
    if (!is_wanted(name)) continue;
    write_file(folder / "cache" / name / kTraceFile, golden_trace(registry, name));
    write_left_out("cache", "CacheConformance", name);
  }
  for (const AttentionEntry& entry : registry.attentions()) {
    if (!is_wanted(entry.info.name)) continue;
    write_left_out("attention", "AttentionConformance", entry.info.name);
  }
  for (const PositionEntry& entry : registry.positions()) {
    if (!is_wanted(entry.info.name)) continue;
    write_left_out("position", "PositionConformance", entry.info.name);
  }
}

int run_suite(const Registry& registry, const std::vector<std::string>& chosen,
              const ProgramFlags& flags, char* program) {
  SuiteOptions options;
  options.plugins = chosen;
  options.random_operations = flags.operations.value_or(options.random_operations);
  options.seed = flags.seed.value_or(options.seed);
  options.replay_folder = flags.replays.value_or(options.replay_folder);
  std::error_code failed;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (!failed) options.replaying_program = self.string();
  std::vector<std::string> googletest = flags.googletest;
  const Registered registered = register_conformance(registry, options);
  if (flags.table) print_results_as_table(registered);
  std::vector<char*> arguments = {program};
  for (std::string& argument : googletest) arguments.push_back(argument.data());
  arguments.push_back(nullptr);  // GoogleTest moves it along with the arguments it takes out
  return run_tests(static_cast<int>(arguments.size()) - 1, arguments.data());
}

int run(const std::vector<std::string>& arguments, char* program) {
  const ProgramFlags flags = read_flags(arguments);
  if (flags.help) {
    std::cout << flags_help();
    return 0;
  }
  prepare_process();
  if (flags.target) kernels::use_target(*flags.target);
  Registry registry;
  register_builtin_plugins(registry);
  const std::vector<std::string> chosen = load_and_choose(flags, registry);
  if (flags.replay) return run_replay(registry, *flags.replay);
  if (flags.write_traces) {
    write_kept_files(registry, chosen, *flags.write_traces);
    return 0;
  }
  return run_suite(registry, chosen, flags, program);
}

}  // namespace
}  // namespace kvlab::conformance

int main(int argc, char** argv) {
  try {
    return kvlab::conformance::run({argv + 1, argv + argc}, argv[0]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}

// kvlab: the command line of the laboratory.
#include <iostream>

#include "command_arm_process.h"
#include "command_compare.h"
#include "command_completion.h"
#include "command_decode_worker.h"
#include "command_describe.h"
#include "command_doctor.h"
#include "command_export.h"
#include "command_generate.h"
#include "command_help.h"
#include "command_list.h"
#include "command_memory.h"
#include "command_plugin.h"
#include "command_power.h"
#include "command_report.h"
#include "command_run.h"
#include "command_schema.h"
#include "command_score.h"
#include "command_sweep.h"
#include "command_tokenize.h"
#include "command_validate.h"
#include "command_worker.h"
#include "exit_code.h"
#include "kvlab/core/component.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
#include "model_options.h"

namespace kvlab {

namespace {

constexpr const char* kDescription =
    "kvlab " KVLAB_VERSION ", a laboratory for KV caches in GPT-style decoders";

void add_commands(CLI::App& app, Invocation& invocation) {
  add_generate_command(app, invocation);
  add_score_command(app, invocation);
  add_tokenize_command(app, invocation);
  add_memory_command(app, invocation);
  add_list_command(app, invocation);
  add_describe_command(app, invocation);
  add_plugin_command(app, invocation);
  add_validate_command(app, invocation);
  add_schema_command(app, invocation);
  add_run_command(app, invocation);
  add_sweep_command(app, invocation);
  add_worker_command(app, invocation);
  add_report_command(app, invocation);
  add_export_command(app, invocation);
  add_compare_command(app, invocation);
  add_power_command(app, invocation);
  add_doctor_command(app, invocation);
  add_arm_process_command(app, invocation);
  add_decode_worker_command(app, invocation);
  add_completion_commands(app, invocation);
  add_help_command(app, invocation);
}

// The parser only says that a word was not expected.
void check_command_name(const CLI::App& app, const std::string& word) {
  if (word.empty() || word.front() == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (command->get_name() == word) return;
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  throw UserError(
      detail::concat("[command_line] '", word, "' is no command.", suggestion(word, names)));
}

int run_command_line(int argc, char** argv) {
  Invocation invocation;
  invocation.argv.assign(argv, argv + argc);
  CLI::App app(kDescription, "kvlab");
  app.set_version_flag("--version", std::string("kvlab ") + KVLAB_VERSION);
  app.require_subcommand(0, 1);
  add_commands(app, invocation);
  if (argc > 1) check_command_name(app, argv[1]);
  if (argc > 1 && invocation.argv[1] == "complete") return answer_completion(app, invocation.argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);
    app.exit(error, std::cout, std::cerr);
    return asked ? kExitOk : kExitUsage;
  }
  if (!invocation.run) {
    std::cerr << app.help();
    return kExitUsage;
  }
  return invocation.run();
}

}  // namespace

}  // namespace kvlab

int main(int argc, char** argv) {
  int code = kvlab::kExitFailed;
  try {
    kvlab::prepare_process();
    kvlab::set_threads(kvlab::hardware_threads());
    code = kvlab::run_command_line(argc, argv);
  } catch (...) {
    code = kvlab::report_exception(std::cerr);
  }
  if (!std::cout.flush() && code == kvlab::kExitOk) {
    std::cerr << "kvlab: [command_line] standard output cannot be written\n";
    code = kvlab::kExitFailed;
  }
  return code;
}

#include "command_export.h"

#include <filesystem>
#include <iostream>
#include <memory>

#include "exit_code.h"
#include "kvlab/core/component.h"
#include "kvlab/core/error.h"
#include "kvlab/results/export.h"
#include "kvlab/results/store.h"

namespace kvlab {

namespace {

struct ExportArguments {
  std::vector<std::string> folders;
  std::string format, table = "metrics", output;
  CLI::Option* table_option = nullptr;
  bool force = false;
};

// Before anything is read, which may take a while.
void check_arguments(const ExportArguments& given) {
  const std::vector<std::string> formats = {"csv", "json", "sqlite"};
  KVLAB_CHECK(std::find(formats.begin(), formats.end(), given.format) != formats.end(),
              "[command_line.export] --to '", given.format, "' is no format.",
              suggestion(given.format, formats));
  KVLAB_CHECK(given.format == "csv" || given.table_option->count() == 0,
              "[command_line.export] --table chooses one table of --to csv; ", given.format,
              " holds all of them");
  KVLAB_CHECK(given.format != "sqlite" || !given.output.empty(),
              "[command_line.export] --to sqlite writes a file; name it with --output");
  if (given.output.empty()) return;
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path path(given.output);
  KVLAB_CHECK(!fs::is_directory(path, ignored), "[command_line.export] --output '", given.output,
              "' is a folder; name a file");
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  KVLAB_CHECK(fs::is_directory(parent, ignored), "[command_line.export] the folder of --output '",
              given.output, "' does not exist; create it first");
  KVLAB_CHECK(given.force || !fs::exists(fs::symlink_status(path, ignored)),
              "[command_line.export] '", given.output,
              "' exists; choose another name, or overwrite it with --force");
}

std::string exported(const ExportArguments& given, const StoredRuns& runs) {
  if (given.format == "csv") return runs_to_csv(runs, given.table);
  return given.format == "json" ? runs_to_json(runs) : store_bytes(runs);
}

int run_export(const ExportArguments& given) {
  check_arguments(given);
  const StoredRuns runs = read_all_runs(given.folders);
  for (const StoredRun& run : runs.runs) {
    if (run.status != "ok") {
      std::cerr << "export: " << run.name << " is not finished, status " << run.status << "\n";
    }
  }
  const std::string bytes = exported(given, runs);
  if (given.output.empty()) {
    std::cout << bytes;
  } else {
    write_file_atomically(given.output, bytes);
    std::cerr << "export: " << runs.runs.size() << " run(s) in " << given.output << "\n";
  }
  return kExitOk;
}

}  // namespace

void add_export_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("export", "Write what runs and sweeps found as CSV, JSON or SQLite.");
  const auto given = std::make_shared<ExportArguments>();
  command
      ->add_option("folders", given->folders,
                   "Folders of runs or sweeps, or folders that hold some")
      ->required();
  command->add_option("--to", given->format, "csv, json or sqlite")->required();
  given->table_option = command->add_option(
      "--table", given->table,
      "The table of --to csv: metrics, runs, cases, checks, failures, environment or samples");
  command->add_option("-o,--output", given->output,
                      "The file to write; without it csv and json go to standard output");
  command->add_flag("--force", given->force, "Overwrite the file of --output");
  command->callback(
      [given, &invocation] { invocation.run = [given] { return run_export(*given); }; });
}

}  // namespace kvlab

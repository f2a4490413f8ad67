#include "command_report.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>

#include "exit_code.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/report_writer.h"

namespace kvlab {

namespace {

int run_report(const std::string& run_folder) {
  namespace fs = std::filesystem;
  const fs::path folder = fs::path(run_folder) / "report";
  const fs::path source = folder / "document.json";
  std::error_code ignored;
  if (!fs::is_regular_file(source, ignored)) {
    throw MissingError("[command_line.report] '" + source.string() +
                       "' does not exist; give the folder of a finished run, as kvlab run prints "
                       "it");
  }
  std::ifstream file(source, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  KVLAB_CHECK(file && !file.bad(), "[command_line.report] '", source.string(), "' cannot be read");
  const WrittenReport report = write_report(report_document_from_json(text.str()), folder.string(),
                                            find_renderer(KVLAB_SOURCE_DIR));
  for (const std::string& warning : report.warnings) std::cerr << "report: " << warning << "\n";
  std::cout << "Report: " << report.html << "\n";
  return kExitOk;
}

}  // namespace

void add_report_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("report", "Write a run's report again from its data.");
  const auto folder = std::make_shared<std::string>();
  command->add_option("run_folder", *folder, "The run's folder, which holds report/document.json")
      ->required();
  command->callback(
      [folder, &invocation] { invocation.run = [folder] { return run_report(*folder); }; });
}

}  // namespace kvlab

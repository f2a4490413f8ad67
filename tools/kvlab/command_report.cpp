#include "command_report.h"

#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <vector>

#include "exit_code.h"
#include "kvlab/core/error.h"
#include "kvlab/results/run_reader.h"
#include "kvlab/runtime/report_writer.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

constexpr const char* kDocument = "report/document.json";

void write_again(const fs::path& run) {
  const fs::path source = run / kDocument;
  std::ifstream file(source, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  KVLAB_CHECK(file && !file.bad(), "[command_line.report] '", source.string(), "' cannot be read");
  const WrittenReport report = write_report(report_document_from_json(text.str()),
                                            (run / "report").string(),
                                            find_renderer(KVLAB_SOURCE_DIR));
  for (const std::string& warning : report.warnings) std::cerr << "report: " << warning << "\n";
  std::cout << "Report: " << report.html << "\n" << std::flush;
}

// Those that ended with a report; the others have none to write again.
std::vector<fs::path> cases_of(const fs::path& sweep) {
  KVLAB_CHECK(is_sweep_folder(sweep.string()), "[command_line.report] '", sweep.string(),
              "' is no sweep, so it has no cases; leave --cases out");
  std::vector<fs::path> found;
  for (const StoredRun& run : read_runs(sweep.string()).runs) {
    std::error_code ignored;
    if (fs::is_regular_file(fs::path(run.folder) / kDocument, ignored)) {
      found.push_back(run.folder);
    }
  }
  return found;
}

int run_report(const std::string& folder, bool with_cases) {
  const fs::path source = fs::path(folder) / kDocument;
  std::error_code ignored;
  if (!fs::is_regular_file(source, ignored)) {
    throw MissingError("[command_line.report] '" + source.string() +
                       "' does not exist; give the folder of a finished run, as kvlab run prints "
                       "it");
  }
  if (with_cases) {
    for (const fs::path& run : cases_of(folder)) write_again(run);
  }
  write_again(folder);
  return kExitOk;
}

}  // namespace

void add_report_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand("report", "Write a run's report again from its data.");
  const auto folder = std::make_shared<std::string>();
  command->add_option("run_folder", *folder, "The run's folder, which holds report/document.json")
      ->required();
  const auto cases = std::make_shared<bool>(false);
  command->add_flag("--cases", *cases,
                    "Of a sweep: its cases' reports too, whose figures a sweep leaves undrawn");
  command->callback([folder, cases, &invocation] {
    invocation.run = [folder, cases] { return run_report(*folder, *cases); };
  });
}

}  // namespace kvlab

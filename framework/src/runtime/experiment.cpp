#include "kvlab/runtime/experiment.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string_view>
#include <utility>

#include "experiment_tree.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/arm_process.h"
#include "kvlab/runtime/plugin_loader.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/report_terminal.h"
#include "kvlab/runtime/report_writer.h"
#include "kvlab/runtime/run_log.h"
#include "kvlab/runtime/run_progress.h"
#include "kvlab/runtime/shell_command.h"
#include "kvlab/runtime/terminal_colour.h"
#include "kvlab/runtime/visible_text.h"

namespace kvlab {

namespace {

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void complete_report(ReportDocument& report, const ExperimentConfig& config,
                     const RunOptions& options, std::vector<ReportFact> environment) {
  report.experiment = config.kind;
  report.question = config.question;
  if (report.title.empty()) report.title = config.title;
  if (config.primary_metric) report.primary_metric = *config.primary_metric;
  report.command = repeating_command(options.argv);
  environment.push_back({"peak resident memory",
                         detail::concat(peak_resident_bytes() / 1000000, " MB (whole process)")});
  report.environment.insert(report.environment.end(), environment.begin(), environment.end());
  for (const char* name : {"run.json", "log.txt", "env.json", "samples.jsonl", "summary.json",
                           "config/input.yaml", "config/resolved.yaml"}) {
    report.raw_files.push_back({name, std::string("../") + name});
  }
}

// A report of part of a run must not look like one of all of it.
void mark_interrupted(ReportDocument& report) {
  report.failures.insert(report.failures.begin(),
                         {"the run", "interrupted: it shows what was finished by then"});
  report.conclusions.insert(report.conclusions.begin(),
                            "INTERRUPTED: this report shows only what was finished by then.");
}

// The first table, as the terminal shows it: which one it is, and how many others the report has.
void print_summary(const ReportDocument& report, std::ostream& out) {
  size_t tables = 0;
  for (const ReportSection& section : report.sections) tables += section.tables.size();
  for (const ReportSection& section : report.sections) {
    for (const ReportTable& table : section.tables) {
      out << "\n" << visible_text(section.title + ": " + table.title) << "\n"
          << terminal_table(table);
      if (tables > 1) out << "Table 1 of " << tables << "; the report named below has all.\n";
      out << "\n";
      const bool coloured = &out == &std::cout && wants_colour(STDOUT_FILENO);
      for (const std::string& sentence : report.conclusions) {
        const std::string shown = visible_text(sentence, LineBreaks::keep);
        out << (coloured ? coloured_verdicts(shown) : shown) << "\n";
      }
      return;
    }
  }
  for (const std::string& sentence : report.conclusions) out << sentence << "\n";
}

// Loads what the config names and writes into it what the registry has, wherever it came from.
void load_named_plugins(ExperimentConfig& config, Registry& registry) {
  for (size_t i = 0; i < config.plugins.size(); ++i) {
    try {
      load_plugins(registry, {config.plugins[i]});
    } catch (const PluginError& error) {
      const ConfigNode item = config.root.find("plugins")->items()[i];
      throw PluginError(detail::concat(item.where(), ": ", item.path(), ": ", error.what()));
    }
  }
  if (registry.plugins().empty()) return;
  config.plugins.clear();
  for (const LoadedPlugin& plugin : registry.plugins()) config.plugins.push_back(plugin.file);
  config.root = with_texts(config.root, "plugins", config.plugins);
}

// Kinds that know nothing of processes must not take the key silently.
void check_isolation(LoadedExperiment& loaded) {
  ConfigReader& reader = loaded.config.reader;
  if (loaded.experiment->isolates_arms() || !reader.has("isolation")) return;
  reader.fail("isolation", detail::concat("the experiment ", loaded.config.kind,
                                          " does all of its work in one process; delete the key"));
}

// The bar is gone before anything else is printed, also where the experiment throws.
ExperimentResult run_watched(LoadedExperiment& loaded, RunContext context, RunLog& log,
                             bool on_standard_error) {
  RunProgress progress(loaded.config.kind, log, {.draws = on_standard_error});
  context.progress = &progress;
  return loaded.experiment->run(context);
}

// An experiment may take a full disk for the failure of an arm.
void check_storage(const RunFolder& folder) {
  if (!folder.storage_failure().empty()) throw StorageError(folder.storage_failure());
}

// The report's writer tells a disk that refuses from a document that is malformed by its message.
bool report_not_written(const std::exception& error) {
  return std::string_view(error.what()).starts_with("[report.write] cannot write");
}

// `sweep:` holds values for many runs; one run would silently take none of them.
void refuse_sweep(const ConfigNode& root) {
  const ConfigNode* sweep = root.find("sweep");
  if (sweep == nullptr) return;
  fail_at(*sweep,
          "this file describes many runs; use kvlab sweep, or leave the key out with ~sweep");
}

}  // namespace

void RunContext::begin_progress(int64_t total) const {
  if (progress != nullptr) progress->begin(total);
}

void RunContext::advance_progress(int64_t units) const {
  if (progress != nullptr) progress->advance(units);
}

std::unique_ptr<ArmService> Experiment::serve_arm(const std::string& name, const Registry&) {
  throw UserError(detail::concat("[runtime.experiment] arm '", name,
                                 "': this experiment kind runs no arm in a process of its own"));
}

LoadedExperiment load_experiment(const std::string& path, const std::vector<std::string>& overrides,
                                 Registry& registry) {
  const ConfigNode root = load_config_file(path, overrides);
  refuse_sweep(root);
  return open_experiment_tree(root, read_text(path), registry);
}

LoadedExperiment open_experiment_tree(const ConfigNode& root, std::string input_text,
                                      Registry& registry) {
  LoadedExperiment loaded{parse_experiment(root), std::move(input_text), nullptr};
  load_named_plugins(loaded.config, registry);
  const ConfigNode* kind = root.find("experiment");
  const ExperimentEntry& entry =
      registry.experiment(loaded.config.kind, kind == nullptr ? "" : kind->where());
  loaded.experiment = entry.create(loaded.config, registry);
  check_isolation(loaded);
  loaded.config.reader.finish();
  return loaded;
}

int run_experiment(LoadedExperiment& loaded, const Registry& registry, const RunOptions& options,
                   std::ostream& out, std::ostream& screen) {
  const std::string path =
      options.folder.empty()
          ? create_stamped_folder(options.runs_folder, loaded.config.kind,
                                  hash_text(to_yaml(loaded.config.root)).substr(0, 8))
          : options.folder;
  RunFolder folder(path, loaded.config.kind, loaded.config.root,
                   {loaded.input_text, options.overrides, options.argv, loaded.experiment->seed()});
  RunLog run_log(screen, folder.file("log.txt"));
  std::ostream& log = run_log.stream();
  RunContext context{registry, folder, out, log, options.program};
  try {
    ExperimentResult result = run_watched(loaded, context, run_log, &screen == &std::cerr);
    check_storage(folder);
    const bool stopped = interrupted();
    if (stopped) mark_interrupted(result.report);
    std::vector<ReportFact> environment = describe_environment(registry);
    folder.write_environment(environment);
    folder.write_summary(result.metrics, result.report.checks, result.report.failures);
    complete_report(result.report, loaded.config, options, std::move(environment));
    const WrittenReport report =
        write_report(result.report, folder.file("report"),
                     {options.renderer_python, options.renderer_script});
    for (const std::string& warning : report.warnings) log << warning << "\n";
    print_summary(result.report, out);
    const int code = stopped ? 130 : result.passed ? 0 : 1;
    folder.finish(stopped         ? RunStatus::interrupted
                  : result.passed ? RunStatus::ok
                                  : RunStatus::failed,
                  code);
    out << "\nReport: " << report.html << "\n";
    return code;
  } catch (const StorageError&) {
    throw;
  } catch (const InterruptedError& error) {
    folder.finish(RunStatus::interrupted, 130, error.what());
    log << error.what() << "\nPartial results: " << folder.path() << "\n";
    return 130;
  } catch (const std::exception& error) {
    check_storage(folder);
    if (report_not_written(error)) throw StorageError(error.what());
    const int code = dynamic_cast<const MissingError*>(&error) != nullptr ? 4 : 1;
    folder.finish(RunStatus::failed, code, error.what());
    log << error.what() << "\nThe run failed; what there is: " << folder.path() << "\n";
    return code;
  }
}

}  // namespace kvlab

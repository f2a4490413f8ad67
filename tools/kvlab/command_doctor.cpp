#include "command_doctor.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <sstream>

#include "exit_code.h"
#include "kvlab/core/error.h"
#include "kvlab/model/tokenizer.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/plugin_loader.h"
#include "kvlab/runtime/report_writer.h"
#include "kvlab/runtime/run_folder.h"
#include "model_argument.h"
#include "model_options.h"
#include "thread_check.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

// Prints findings and remembers whether something needed is missing.
class Findings {
 public:
  void good(const std::string& what, const std::string& detail) { print("ok", what, detail); }
  void optional(const std::string& what, const std::string& detail) {
    print("optional", what, detail);
  }
  void missing(const std::string& what, const std::string& remedy) {
    complete_ = false;
    print("MISSING", what, remedy);
  }
  bool complete() const { return complete_; }

 private:
  static void print(const char* state, const std::string& what, const std::string& detail) {
    std::cout << "[" << state << "] " << what << ": " << detail << "\n";
  }
  bool complete_ = true;
};

std::string find_on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  std::string folder;
  while (std::getline(folders, folder, ':')) {
    const fs::path candidate = fs::path(folder) / program;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate.string();
  }
  return "";
}

void check_threads(Findings& findings) {
  if (hardware_threads() < 2) {
    findings.good("threads", "this machine has one hardware thread");
    return;
  }
  const int64_t working = threads_that_compute(2);
  if (working >= 2) {
    findings.good("threads", "two threads compute when two are asked for");
  } else if (working == 0) {
    findings.optional("threads", "the kernel's accounting in /proc/self/task does not say");
  } else {
    findings.missing("threads",
                     "two were asked for and one computed; check OMP_NUM_THREADS, the process's "
                     "CPU affinity, and that LibTorch has OpenMP");
  }
}

void check_toolkit(Findings& findings) {
  const std::string compiler = find_on_path("nvcc");
  findings.optional("CUDA toolkit", (compiler.empty() ? "no nvcc on PATH" : compiler) +
                                        " (optional; no GPU plugin yet)");
}

void check_renderer(Findings& findings) {
  const ReportOptions renderer = find_renderer(KVLAB_SOURCE_DIR);
  std::error_code ignored;
  if (!renderer.renderer_python.empty() && fs::exists(renderer.renderer_script, ignored)) {
    findings.good("figure renderer", renderer.renderer_python);
  } else {
    findings.optional("figure renderer",
                      "not found, so reports show numbers instead of figures; run tools/setup, or "
                      "pip install vl-convert-python and name that Python in KVLAB_PYTHON");
  }
}

void check_model(Findings& findings) {
  try {
    const ModelSource source = find_model("smollm2_135m");
    (void)model_shape(source);
    findings.good("SmolLM2-135M", source.path);
  } catch (const Error& error) {
    findings.missing("SmolLM2-135M", std::string("run tools/setup (") + error.what() + ")");
  }
}

void check_vocabulary(Findings& findings) {
  const std::string folder = std::string(KVLAB_SOURCE_DIR) + "/.deps/vocab/gpt2";
  try {
    const Tokenizer tokenizer(read_tokenizer_folder(folder));
    findings.good("GPT-2 vocabulary",
                  detail::concat(folder, ", ", tokenizer.vocabulary(), " tokens"));
  } catch (const Error& error) {
    findings.missing("GPT-2 vocabulary", std::string("run tools/setup (") + error.what() + ")");
  }
}

// Loads what KVLAB_PLUGIN_PATH names, one by one, so that each that is refused shows.
void check_plugins(Findings& findings, Registry& registry) {
  std::vector<std::string> files;
  try {
    files = environment_plugin_files();
  } catch (const Error& error) {
    findings.missing("plugin libraries", error.what());
  }
  for (const std::string& file : files) {
    try {
      const LoadedPlugin plugin = load_plugin(registry, file);
      findings.good("plugin library", plugin.name + " " + plugin.version + ", " + plugin.file);
    } catch (const Error& error) {
      findings.missing("plugin library", error.what());
    }
  }
  if (std::getenv("KVLAB_PLUGIN_PATH") == nullptr) {
    findings.optional("plugin libraries", "KVLAB_PLUGIN_PATH names none");
  }
}

int run_doctor() {
  Registry registry = builtin_registry();
  for (const ReportFact& fact : describe_environment(registry)) {
    std::cout << fact.name << ": " << fact.value << "\n";
  }
  std::cout << "\n";
  Findings findings;
  check_threads(findings);
  check_toolkit(findings);
  check_renderer(findings);
  check_model(findings);
  check_vocabulary(findings);
  check_plugins(findings, registry);
  std::cout << (findings.complete() ? "\nEverything needed is there.\n"
                                    : "\nSomething needed is missing.\n");
  return findings.complete() ? kExitOk : kExitFailed;
}

}  // namespace

void add_doctor_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command =
      app.add_subcommand("doctor", "Say what this machine and checkout have and lack.");
  command->callback([&invocation] { invocation.run = [] { return run_doctor(); }; });
}

}  // namespace kvlab

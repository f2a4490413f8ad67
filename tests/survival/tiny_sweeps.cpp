#include "tests/survival/tiny_sweeps.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace kvlab::survival {

namespace fs = std::filesystem;

TestFolder::TestFolder() {
  const std::string memory = "/dev/shm";
  const std::string parent =
      ::access(memory.c_str(), W_OK) == 0 ? memory : fs::temp_directory_path().string();
  path_ = parent + "/kvlab-survival-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("no folder in " + parent);
}

TestFolder::~TestFolder() {
  if (kept_) return;
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> start_sweep(const std::string& runs,
                                     const std::vector<std::string>& more) {
  std::vector<std::string> words = {KVLAB_BINARY_DIR "/bin/kvlab", "sweep",
                                    KVLAB_SOURCE_DIR "/tests/survival/tiny_sweep.yaml", "--runs",
                                    runs};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::vector<std::string> resume_sweep(const std::string& sweep) {
  return {KVLAB_BINARY_DIR "/bin/kvlab", "sweep", "--resume", sweep};
}

std::string planned_sweep(const std::string& runs) {
  const std::string parent = runs + "/generation_benchmark";
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(parent, none)) {
    const std::string path = entry.path().string();
    if (!path.ends_with(".partial") && fs::exists(path + "/plan.jsonl")) return path;
  }
  return "";
}

void append(Lines& lines, const Lines& more) {
  lines.insert(lines.end(), more.begin(), more.end());
}

CleanRun run_cleanly(Lines& wrong, const std::vector<std::string>& more, int64_t trials) {
  const TestFolder folder;
  const std::string runs = folder.path() + "/runs", log = folder.path() + "/operations";
  const ProgramResult result =
      run_watched({}, runs, log, start_sweep(runs, more), 600);
  if (result.exit_code != 0) {
    wrong.push_back("the clean run failed: " + result.err);
    return {};
  }
  const std::string sweep = planned_sweep(runs);
  CleanRun clean{untimed_lines(read_whole(sweep + "/table.csv")), read_operations(log)};
  Ledger ledger(trials);
  append(wrong, ledger.record(sweep));
  append(wrong, ledger.judge_end(sweep, clean.operations));
  if (std::count(clean.table.begin(), clean.table.end(), '\n') <= trials) {
    wrong.push_back("the clean run's table has too few lines:\n" + clean.table);
  }
  return clean;
}

bool is_long_mode() {
  const char* text = std::getenv("KVLAB_SURVIVAL_LONG");
  return text != nullptr && std::string(text) == "1";
}

}  // namespace kvlab::survival

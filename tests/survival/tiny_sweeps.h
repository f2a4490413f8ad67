// Starts sweeps over tiny_sweep.yaml and finds what they left.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tests/survival/faults.h"
#include "tests/survival/ledger.h"

namespace kvlab::survival {

constexpr int64_t kTrials = 6;  // of tiny_sweep.yaml

/// A folder in memory, where fsync costs nothing, that is gone with the object.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }

  /// Leaves it behind, for somebody who looks for the reason of a failure.
  void keep() { kept_ = true; }

 private:
  std::string path_;
  bool kept_ = false;
};

/// The whole file; "" where there is none.
std::string read_whole(const std::string& path);

/// The command that starts a new sweep below `runs`, with `more` arguments.
std::vector<std::string> start_sweep(const std::string& runs,
                                     const std::vector<std::string>& more = {});

/// The command that goes on with a sweep.
std::vector<std::string> resume_sweep(const std::string& sweep);

/// The folder of the planned sweep below `runs`; "" where none is planned to the end.
std::string planned_sweep(const std::string& runs);

using Lines = std::vector<std::string>;

void append(Lines& lines, const Lines& more);

/// A sweep that nothing happened to: what the others are compared with.
struct CleanRun {
  std::string table;  ///< lines that do not come from a clock
  std::vector<Operation> operations;

  int64_t size() const { return static_cast<int64_t>(operations.size()); }
};

/// Runs one with the arguments `more` and adds to `wrong` what is not as it should be.
CleanRun run_cleanly(Lines& wrong, const std::vector<std::string>& more = {},
                     int64_t trials = kTrials);

/// True with KVLAB_SURVIVAL_LONG=1 in the environment: thousands of kills instead of hundreds.
bool is_long_mode();

}  // namespace kvlab::survival

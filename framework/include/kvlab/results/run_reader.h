// Reads what runs left behind: the folder of one run, of a sweep, or any tree that holds some.
// Texts are UTF-8 when they come out of here; bytes that are not become U+FFFD.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvlab/runtime/run_folder.h"

namespace kvlab {

/// One line of samples.jsonl: its text, and what comparisons need of it where the line has it.
struct StoredSample {
  int64_t line = 0;  ///< counted from 1
  std::string json;  ///< the line as one JSON object
  std::string arm;   ///< empty where the line names none
  std::optional<int64_t> rep, order, prompt_length, batch, new_tokens, ttft_ns;
  std::vector<int64_t> token_ns = {};  ///< gaps between tokens
};

/// One run as its folder tells it.
struct StoredRun {
  std::string folder;  ///< where it was read
  std::string name;    ///< its folder relative to what was read, or that folder's own name
  std::optional<int64_t> case_index;  ///< of a sweep
  std::string hash;                   ///< of a sweep's case, as planned
  std::string experiment;
  std::string status;  ///< running, ok, failed or interrupted
  std::string start, stop, message;
  std::optional<int64_t> exit_code;
  uint64_t seed = 0;
  std::vector<std::string> argv = {}, overrides = {};
  std::string config;  ///< text of config/resolved.yaml
  std::vector<ReportFact> environment = {};
  std::vector<Metric> metrics = {};
  std::vector<ReportCheck> checks = {};
  std::vector<ReportFailure> failures = {};
  std::vector<StoredSample> samples = {};
};

/// One line of a sweep's plan.jsonl.
struct PlannedCase {
  int64_t index = 0;
  std::string name, hash;
  std::vector<std::string> overrides = {};
  bool skipped = false;
  std::vector<std::string> reasons = {};  ///< why it was skipped
};

/// What lies below one folder.
struct StoredRuns {
  std::vector<StoredRun> runs = {};     ///< by case index, then by name
  std::vector<PlannedCase> cases = {};  ///< of a sweep, in the order of its plan; else empty
};

/// Reads one run. A run that says `ok` must be complete; of one that failed, was interrupted or
/// still runs, what is there is read, and a last sample without its line's end is left out. Throws
/// MissingError where `folder` holds no run.json, and UserError naming the file (and line) that is
/// missing, damaged or of another schema.
StoredRun read_run(const std::string& folder);

/// Throws UserError unless the run ended with status `ok`.
void check_finished(const StoredRun& run);

/// Whether `folder` holds a sweep.
bool is_sweep_folder(const std::string& folder);

/// Reads a run, a sweep or every run and sweep below a folder; links are not followed. A sweep's
/// case that never started has no run. Throws as `read_run` does, and MissingError where there is
/// no run at all.
StoredRuns read_runs(const std::string& folder);

/// Reads several such folders into one. Names stay unique: they start with the folder's own name,
/// or with its path where two have the same. Throws as `read_runs` does, and UserError where a
/// folder is given twice, by whatever path.
StoredRuns read_all_runs(const std::vector<std::string>& folders);

/// The keys that overrides set, and what to: "+a.b=1" is {"a.b", "1"}, "~a.b" is {"a.b",
/// "removed"}.
std::vector<std::pair<std::string, std::string>> override_values(
    const std::vector<std::string>& overrides);

/// `text` with what is not UTF-8 replaced by U+FFFD.
std::string utf8_text(const std::string& text);

}  // namespace kvlab

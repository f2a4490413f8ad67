// The folder that a run leaves behind, and what it says about the machine.
#pragma once

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvlab/runtime/config_node.h"
#include "kvlab/runtime/durable_file.h"
#include "kvlab/runtime/heartbeat.h"
#include "kvlab/runtime/registry.h"
#include "kvlab/runtime/report_document.h"

namespace kvlab {

enum class RunStatus { running, ok, failed, interrupted };
const char* run_status_name(RunStatus status);

/// One number of `summary.json`.
struct Metric {
  std::string arm;
  std::string metric;
  double value = 0;
  std::string unit;
  int64_t n = 0;
  double ci_low = 0, ci_high = 0;  ///< NaN where there is no interval
  BetterDirection direction = BetterDirection::none;
  std::vector<std::pair<std::string, std::string>> group = {};  ///< e.g. prompt_length=4
  bool timed = false;  ///< comes from a clock: the same run repeated gives another value
  /// Of a ratio to the control that was judged: `verdict_name`, and the probability of such a
  /// difference between equal arms before any adjustment. Empty and NaN elsewhere.
  std::string verdict = {};
  double p = std::numeric_limits<double>::quiet_NaN();
};

/// What a run's folder keeps of how the run was asked for.
struct RunRecord {
  std::string input_text;  ///< of the config file
  std::vector<std::string> overrides;
  std::vector<std::string> argv;
  uint64_t seed = 0;
};

/// `runs/<experiment>/<UTC stamp>-<8 hex of the resolved config>/`. Files appear under their names
/// only when they are complete; `run.json` says `running` until `finish`, and while the run goes on
/// the file `heartbeat` holds the time at which its process last lived. Functions throw
/// StorageError.
class RunFolder {
 public:
  /// Writes config/ and run.json into the folder `path`, which exists and is empty.
  RunFolder(const std::string& path, const std::string& experiment, const ConfigNode& resolved,
            const RunRecord& record);
  /// Marks a run that was not finished as failed.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  /// Appends one JSON line to `samples.jsonl` and flushes it to the disk.
  void add_sample(const std::string& json_line);

  void write_environment(const std::vector<ReportFact>& facts);
  /// Writes summary.json, the interface for scripts.
  void write_summary(const std::vector<Metric>& metrics, const std::vector<ReportCheck>& checks,
                     const std::vector<ReportFailure>& failures);
  void finish(RunStatus status, int exit_code, const std::string& message = "");

  /// What the disk first refused, for callers whose own error handling hides it; else empty.
  const std::string& storage_failure() const { return storage_failure_; }

 private:
  void write_run_file(RunStatus status, int exit_code, const std::string& message);
  void write(const std::string& name, std::string_view text);

  std::string path_;
  std::string experiment_;
  std::vector<std::string> argv_;
  uint64_t seed_;
  std::string started_;
  bool finished_ = false;
  std::string storage_failure_;
  std::unique_ptr<Heartbeat> heartbeat_;
};

/// Creates `where`/<experiment>/<UTC stamp>-<hash>, with a suffix where that exists already, and
/// returns its path. Nothing is in it yet.
std::string create_stamped_folder(const std::string& where, const std::string& experiment,
                                  const std::string& hash);

/// Facts that a reader needs to judge figures: kvlab version, git state, build type, compiler,
/// LibTorch, CPU model and instruction sets, threads, memory, load, plugins.
std::vector<ReportFact> describe_environment(const Registry& registry);

/// 64-bit FNV-1a of a text, as 16 hex digits.
std::string hash_text(std::string_view text);

/// The hash of a file's size, first and last mebibyte: which plugin library it was. Data of a
/// sweep are known by all of their bytes (`file_hash.h`).
std::string fingerprint_file(const std::string& path);

}  // namespace kvlab

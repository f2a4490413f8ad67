// The folder of a sweep: its plan, what became of each case, and who may write where.
//
//   sweep.json            status, heartbeat, process, counts; identity of code and data
//   plan.jsonl            one line per case
//   configs/0003.yaml     the frozen config of case 3
//   cases/0003-1a2b3c4d/  its run folder; under this name only when complete
//   locks/                sweep.lock, and one per case that a worker took
//   table.csv             all metrics of all cases
//   results.sqlite        the same and more, for queries
//   report/               what the cases say together
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kvlab/runtime/run_folder.h"
#include "kvlab/sweep/folder_lock.h"
#include "kvlab/sweep/sweep_plan.h"

namespace kvlab {

enum class CaseStatus { missing, ok, failed, skipped };
const char* case_status_name(CaseStatus status);

/// What became of a case.
struct CaseState {
  CaseStatus status = CaseStatus::missing;
  std::string reason;  ///< of a failure or of having been skipped
};

struct SweepCounts {
  int64_t cases = 0, skipped = 0, ok = 0, failed = 0, missing = 0;
};

/// A planned sweep on the disk. Functions that write throw StorageError.
class SweepFolder {
 public:
  /// Plans a sweep and freezes it into a new folder below `runs`. Killed before it is complete,
  /// that folder's name ends in ".partial". Throws as `plan_sweep`.
  static std::unique_ptr<SweepFolder> create(const std::string& runs, const std::string& config,
                                             const std::vector<std::string>& overrides,
                                             const std::vector<std::string>& axes,
                                             const std::vector<std::string>& argv,
                                             const RegistryFactory& registry);

  /// Reads the folder of a sweep. Throws MissingError where there is none, UserError where the
  /// folder is no complete sweep.
  explicit SweepFolder(const std::string& path);

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  const SweepPlan& plan() const { return plan_; }
  /// The command line that planned it.
  const std::vector<std::string>& argv() const { return argv_; }

  /// The case of `index`. Throws UserError naming the range.
  const SweepCase& at(int64_t index) const;

  std::string config_of(const SweepCase& planned) const;
  std::string folder_of(const SweepCase& planned) const;

  CaseState state(const SweepCase& planned) const;
  SweepCounts counts() const;

  /// Refuses a program or data other than the plan was made with, naming what differs.
  void check_identity() const;
  /// Refuses data other than the plan was made with, naming the file. One that has not been touched
  /// since this process read it is not read again.
  void check_data() const;

  /// The lock of the process that goes through all cases; nobody else writes meanwhile.
  FolderLock lock_whole() const;
  /// The locks of a worker: of its case alone, and of the sweep beside other workers.
  std::pair<FolderLock, FolderLock> lock_case(const SweepCase& planned) const;

  /// Creates an empty folder for an attempt at a case; what an earlier attempt left is removed.
  /// Requires: the lock of the case or of the whole.
  std::string begin_attempt(const SweepCase& planned) const;
  /// Flushes an attempt and gives it its final name: from now on the case is done.
  void complete_attempt(const SweepCase& planned) const;
  void drop_attempt(const SweepCase& planned) const;
  /// Puts a failed case out of the way, as cases/<name>.failed-<n>, so that it runs again.
  void set_aside(const SweepCase& planned) const;
  void set_failed_aside() const;

  /// A line about the process that was at work here and did not come to an end of any kind, with
  /// the time at which it last lived; empty where there is none. Requires: the lock of the whole.
  std::string lost_process() const;

  /// Writes sweep.json. Requires: the lock of the whole.
  void write_status(RunStatus status, int exit_code, const std::string& message = "");
  /// The same after a missing case has become `done`, without looking at all the others again.
  /// Requires: `write_status` before, under the same lock.
  void write_progress(CaseStatus done);
  /// Writes the time at which this process last lived into sweep.json; any thread may call it.
  void write_heartbeat();

 private:
  void write_sweep_file();

  std::string path_;
  SweepPlan plan_;
  std::vector<std::string> argv_;
  std::mutex mutex_;  // over what follows, which the heartbeat writes too
  RunStatus status_ = RunStatus::running;
  int exit_code_ = 0;
  std::string message_;
  std::string started_;
  SweepCounts counts_;
};

}  // namespace kvlab

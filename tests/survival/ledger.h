// What a test itself knows about a sweep's trials, whatever kvlab's files say about them.
#pragma once

#include <sys/stat.h>

#include <map>
#include <string>
#include <vector>

#include "tests/survival/faults.h"

namespace kvlab::survival {

/// A file as it was seen: the same bytes in the same file, not written since.
struct SeenFile {
  std::string bytes;
  ino_t inode = 0;
  int64_t changed = 0;  ///< nanoseconds

  bool operator==(const SeenFile&) const = default;
};

/// Watches the cases of one sweep over the ends of many processes.
class Ledger {
 public:
  explicit Ledger(int64_t cases) : cases_(cases) {}

  /// Reads all complete cases below `sweep`, compares them with what was seen before and keeps what
  /// is new. Called after each end of a process. Returns what is wrong, one line each.
  std::vector<std::string> record(const std::string& sweep);

  /// What is wrong with a sweep that is said to be done: `operations` are those of all processes.
  std::vector<std::string> judge_end(const std::string& sweep,
                                     const std::vector<Operation>& operations) const;

  int64_t complete() const { return static_cast<int64_t>(trials_.size()); }

 private:
  using Files = std::map<std::string, SeenFile>;
  int64_t cases_;
  std::map<std::string, Files> trials_;  // by the name of the case's folder
};

/// The lines of a merged table that do not come from a clock.
std::string untimed_lines(const std::string& table);

/// What is wrong with the order of operations: a file or folder that got its final name, outside
/// unfinished folders, while something in it was not flushed; a name that was not flushed later;
/// and anything below `folder` that was not flushed in the end.
std::vector<std::string> unflushed_names(const std::vector<Operation>& operations,
                                         const std::string& folder);

}  // namespace kvlab::survival

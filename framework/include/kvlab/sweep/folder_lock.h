// Who may write into a folder: a lock of the operating system, which ends with its process.
#pragma once

#include <optional>
#include <string>

#include "kvlab/core/error.h"

namespace kvlab {

/// Another process holds the lock; the message names it.
class LockedError : public UserError {
 public:
  using UserError::UserError;
};

/// Holds a lock on a file for its lifetime. The file stays: only the lock on it counts. One that is
/// held alone names its holder in the file, so that others can say who refuses them.
class FolderLock {
 public:
  enum class Mode { alone, shared };

  /// Takes the lock at once or throws LockedError: "`what` is held by process 123 on host".
  FolderLock(const std::string& file, Mode mode, const std::string& what);
  ~FolderLock();
  FolderLock(FolderLock&& other) noexcept;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

/// Who holds the lock of `file` alone, e.g. "process 123 on host"; nothing where nobody does.
std::optional<std::string> lock_holder(const std::string& file);

/// The name of this machine, as `gethostname` says it.
std::string host_name();

}  // namespace kvlab

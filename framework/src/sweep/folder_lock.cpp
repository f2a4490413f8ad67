#include "kvlab/sweep/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "kvlab/runtime/durable_file.h"

namespace kvlab {

namespace {

int open_lock(const std::string& file) {
  return ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
}

bool try_lock(int descriptor, int operation) {
  while (::flock(descriptor, operation | LOCK_NB) != 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

std::string holder_text(int descriptor) {
  char text[256];
  const ssize_t count = ::pread(descriptor, text, sizeof text, 0);
  std::string holder(text, count > 0 ? static_cast<size_t>(count) : 0);
  if (const size_t end = holder.find('\n'); end != std::string::npos) holder.resize(end);
  return holder.empty() ? "another process" : holder;
}

}  // namespace

FolderLock::FolderLock(const std::string& file, Mode mode, const std::string& what)
    : descriptor_(open_lock(file)) {
  if (descriptor_ < 0) fail_storage("open", file);
  if (!try_lock(descriptor_, mode == Mode::alone ? LOCK_EX : LOCK_SH)) {
    const int error = errno;
    const std::string holder = holder_text(descriptor_);
    ::close(descriptor_);
    errno = error;
    if (error != EWOULDBLOCK) fail_storage("lock", file);
    throw LockedError(detail::concat("[sweep.lock] ", what, " is held by ", holder,
                                     ". Wait for it to end, or end it"));
  }
  if (mode == Mode::shared) return;
  const std::string text = detail::concat("process ", ::getpid(), " on ", host_name(), "\n");
  // The lock holds whether or not the note about its holder can be written.
  if (::ftruncate(descriptor_, 0) != 0) return;
  [[maybe_unused]] const ssize_t written = ::pwrite(descriptor_, text.data(), text.size(), 0);
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

FolderLock::FolderLock(FolderLock&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

std::optional<std::string> lock_holder(const std::string& file) {
  const int descriptor = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
  if (descriptor < 0) return std::nullopt;
  std::optional<std::string> holder;
  if (!try_lock(descriptor, LOCK_SH)) holder = holder_text(descriptor);
  ::close(descriptor);
  return holder;
}

std::string host_name() {
  char name[256] = "";
  if (::gethostname(name, sizeof name - 1) != 0) return "unknown";
  return name;
}

}  // namespace kvlab

#include "kvlab/runtime/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <utility>

namespace kvlab {

namespace {

namespace fs = std::filesystem;

// Owns a file descriptor.
class OpenFile {
 public:
  OpenFile(const std::string& path, int flags) : path_(path) {
    do {
      descriptor_ = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
    } while (descriptor_ < 0 && errno == EINTR);
    if (descriptor_ < 0) fail_storage("open", path);
  }
  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  void write_all(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(descriptor_, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_storage("write", path_);
      text.remove_prefix(static_cast<size_t>(written));
    }
  }

  void sync() {
    // Some file systems cannot flush a folder and say so; there is nothing more to do there.
    while (::fsync(descriptor_) != 0) {
      if (errno == EINVAL || errno == ENOTSUP) return;
      if (errno != EINTR) fail_storage("fsync", path_);
    }
  }

  // Errors of network file systems may show only here.
  void close() {
    const int descriptor = std::exchange(descriptor_, -1);
    if (::close(descriptor) != 0 && errno != EINTR) fail_storage("close", path_);
  }

  std::string read_all() {
    std::string text;
    char buffer[1 << 16];
    while (true) {
      const ssize_t count = ::read(descriptor_, buffer, sizeof buffer);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) fail_storage("read", path_);
      if (count == 0) return text;
      text.append(buffer, static_cast<size_t>(count));
    }
  }

 private:
  std::string path_;
  int descriptor_;
};

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

}  // namespace

void fail_storage(const char* operation, const std::string& path) {
  const int error = errno;
  const bool full = error == ENOSPC || error == EDQUOT;
  throw StorageError(detail::concat(
      "[runtime.storage.", operation, "] '", path, "': ", std::strerror(error),
      full ? ". Free disk space or choose another folder with --runs"
           : ". Check the folder, its permissions and the disk, or choose another with --runs"));
}

void write_file_atomically(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".partial";
  try {
    OpenFile file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    file.write_all(text);
    file.sync();
    file.close();
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail_storage("rename", path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  sync_folder(parent_of(path));
}

void append_durably(const std::string& path, std::string_view text) {
  std::error_code ignored;
  const bool is_new = !fs::exists(path, ignored);
  OpenFile file(path, O_WRONLY | O_CREAT | O_APPEND);
  file.write_all(text);
  file.sync();
  file.close();
  if (is_new) sync_folder(parent_of(path));
}

void rename_durably(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) fail_storage("rename", to);
  sync_folder(parent_of(to));
}

void create_folder_durably(const std::string& path) {
  std::error_code error;
  if (!fs::create_directory(path, error)) {
    errno = error ? error.value() : EEXIST;
    fail_storage("create", path);
  }
  sync_folder(parent_of(path));
}

void sync_folder(const std::string& path) { OpenFile(path, O_RDONLY | O_DIRECTORY).sync(); }

void sync_tree(const std::string& path) {
  std::error_code error;
  fs::recursive_directory_iterator walk(path, error);
  for (; !error && walk != fs::recursive_directory_iterator(); walk.increment(error)) {
    if (walk->is_directory() && !walk->is_symlink()) sync_folder(walk->path().string());
    if (walk->is_regular_file() && !walk->is_symlink()) {
      OpenFile(walk->path().string(), O_RDONLY).sync();
    }
  }
  if (error) {
    errno = error.value();
    fail_storage("list", path);
  }
  sync_folder(path);
}

std::string read_file(const std::string& path) { return OpenFile(path, O_RDONLY).read_all(); }

std::string utc_now(const char* format) {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  std::strftime(text, sizeof text, format, &parts);
  return text;
}

}  // namespace kvlab

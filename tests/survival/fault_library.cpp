// A library to be preloaded (LD_PRELOAD) that watches what a program does to the files below one
// folder, and at the n-th operation ends the program or lets the disk fail. Needs only the C
// library.
//
//   KVLAB_FAULT_FOLDER   absolute path; operations elsewhere are neither counted nor touched
//   KVLAB_FAULT_CALLS    counted calls with commas between: write, open, fsync, rename, mkdir,
//                        remove, truncate; all where it is not given
//   KVLAB_FAULT_AT       the operation, from 1, at which it happens; 0 or nothing: never
//   KVLAB_FAULT_DO       kill: SIGKILL before the operation; torn: half of a write reaches the
//                        file, then SIGKILL; ENOSPC or EIO: the operation fails; interrupt: the
//                        process gets SIGINT, stop: SIGSTOP, and the operation is done
//   KVLAB_FAULT_FOREVER  1: that operation and every later one fail
//   KVLAB_FAULT_LOG      a file to which lines are appended. The first of a process, when it loads
//                        this library: "process 0 start parent program". One per operation, before
//                        it is done: "process line number call path [new path]", the number being
//                        0 where it does not count, with an '!' before a call that is not done.
//                        `line` goes up by one, so a line that is lost shows. A log that cannot be
//                        written ends the process with exit code 97
//
// Operations of the threads of one process go one after another, each from its line in the log
// until it is done, and a kill waits for its turn: what the log says was done was done, in the
// order of its lines, and no line is torn.
//
// Each process counts for itself. `open` counts where a file is opened for writing or made. A
// stream of `fopen` writes through this library, so `fileno` knows nothing of it; one of `fopen64`,
// which is what std::ofstream takes, is left alone, since std::ofstream itself calls `write`.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>

namespace {

enum class Action { nothing, kill, torn, fail, interrupt, stop };

struct Settings {
  std::string folder, calls;
  long at = 0;
  Action action = Action::nothing;
  int error = EIO;
  bool forever = false;
  int log = -1;
};

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

constexpr int kNoLog = 97;  // exit code

[[noreturn]] void give_up(const std::string& why, int exit_code) {
  const std::string message = "kvlab_faults: " + why + "\n";
  syscall(SYS_write, STDERR_FILENO, message.data(), message.size());
  _exit(exit_code);
}

Settings read_settings() {
  Settings settings;
  settings.folder = variable("KVLAB_FAULT_FOLDER");
  settings.calls = variable("KVLAB_FAULT_CALLS");
  settings.at = std::atol(variable("KVLAB_FAULT_AT").c_str());
  settings.forever = variable("KVLAB_FAULT_FOREVER") == "1";
  const std::string what = variable("KVLAB_FAULT_DO");
  if (what == "kill") settings.action = Action::kill;
  if (what == "torn") settings.action = Action::torn;
  if (what == "interrupt") settings.action = Action::interrupt;
  if (what == "stop") settings.action = Action::stop;
  if (what == "ENOSPC" || what == "EIO") settings.action = Action::fail;
  if (what == "ENOSPC") settings.error = ENOSPC;
  if (settings.action == Action::nothing && settings.at > 0) {
    give_up("what is KVLAB_FAULT_DO to be?", 2);
  }
  const std::string log = variable("KVLAB_FAULT_LOG");
  if (!log.empty()) {
    settings.log = static_cast<int>(syscall(SYS_openat, AT_FDCWD, log.c_str(),
                                            O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (settings.log < 0) give_up("no log " + log + ": " + std::strerror(errno), kNoLog);
  }
  return settings;
}

const Settings& settings() {
  static const Settings* known = new Settings(read_settings());  // outlives every destructor
  return *known;
}

// Held by the thread whose operation it is; over what follows. Outlives every destructor.
std::mutex& turn() {
  static auto* known = new std::mutex;
  return *known;
}
long operations = 0;  // counted ones
long lines = 0;       // of the log

void log(const std::string& text) {
  if (settings().log < 0) return;
  const std::string line = std::to_string(getpid()) + " " + std::to_string(lines++) + " " + text +
                           "\n";
  const long written = syscall(SYS_write, settings().log, line.data(), line.size());
  if (written == static_cast<long>(line.size())) return;
  give_up("the log took " + std::to_string(written) + " of " + std::to_string(line.size()) +
              " bytes: " + std::strerror(errno),
          kNoLog);
}

void begin() {
  operations = 0;
  lines = 0;
  log("start " + std::to_string(getppid()) + " " + program_invocation_short_name);
}

__attribute__((constructor)) void begin_process() {
  begin();
  // A child that goes on without another program is a process of its own.
  pthread_atfork([] { turn().lock(); }, [] { turn().unlock(); },
                 [] {
                   begin();
                   turn().unlock();
                 });
}

std::string path_of(int descriptor) {
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path);
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : "";
}

std::string path_of(int folder, const char* name) {
  if (name[0] == '/') return name;
  if (folder != AT_FDCWD) return path_of(folder) + "/" + name;
  char current[PATH_MAX];
  return std::string(getcwd(current, sizeof current) == nullptr ? "" : current) + "/" + name;
}

bool is_watched(const std::string& path) {
  const std::string& folder = settings().folder;
  return !folder.empty() && path.compare(0, folder.size(), folder) == 0 &&
         (path.size() == folder.size() || path[folder.size()] == '/');
}

bool is_counted(const char* call) {
  const std::string& calls = settings().calls;
  return calls.empty() ||
         ("," + calls + ",").find("," + std::string(call) + ",") != std::string::npos;
}

// One call. Below the watched folder it is an operation: it waits for its turn, which it keeps
// until it is done.
class Call {
 public:
  Call(const char* call, const std::string& path, const std::string& new_path = "") {
    const int before = errno;
    if (is_watched(path) || is_watched(new_path)) {
      turn_ = std::unique_lock(turn());
      action_ = meet(call, path, new_path);
    }
    errno = before;
  }

  Action action() const { return action_; }

  // True where the operation must fail, with errno set; does not return where the process must end.
  bool is_refused() const {
    if (action_ == Action::kill || action_ == Action::torn) die();
    if (action_ == Action::interrupt) syscall(SYS_kill, getpid(), SIGINT);
    if (action_ == Action::stop) syscall(SYS_kill, getpid(), SIGSTOP);
    if (action_ == Action::fail) errno = settings().error;
    return action_ == Action::fail;
  }

 private:
  // What is to happen at this operation, which is counted and logged.
  static Action meet(const char* call, const std::string& path, const std::string& new_path) {
    const Settings& known = settings();
    const bool counted = is_counted(call);
    const long number = counted ? ++operations : 0;
    const bool reached = number == known.at || (known.forever && number > known.at);
    const bool now = counted && known.at > 0 && reached;
    const bool is_done = !now || known.action == Action::interrupt || known.action == Action::stop;
    log(std::to_string(number) + (is_done ? " " : " !") + call + " " + path +
        (new_path.empty() ? "" : " " + new_path));
    return now ? known.action : Action::nothing;
  }

  [[noreturn]] static void die() {
    syscall(SYS_kill, getpid(), SIGKILL);
    while (true) pause();
  }

  std::unique_lock<std::mutex> turn_;
  Action action_ = Action::nothing;
};

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

bool changes_files(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
}

mode_t mode_argument(int flags, va_list arguments) {
  const bool has_mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return has_mode ? va_arg(arguments, mode_t) : 0;
}

// On 64-bit Linux the names with 64 mean the same.
int open_file(int folder, const char* name, int flags, mode_t mode) {
  static const auto real = next<int(int, const char*, int, ...)>("openat");
  std::optional<Call> call;
  if (changes_files(flags)) call.emplace("open", path_of(folder, name));
  if (call && call->is_refused()) return -1;
  return real(folder, name, flags, mode);
}

bool is_stream_for_writing(const char* mode) { return std::strpbrk(mode, "wa+") != nullptr; }

size_t total(const iovec* parts, int count) {
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  return bytes;
}

// Writes the first half of `parts`; `offset` -1 is where the file stands.
void write_half(int descriptor, const iovec* parts, int count, off_t offset) {
  size_t left = total(parts, count) / 2;
  for (int i = 0; i < count && left > 0; ++i) {
    const size_t bytes = parts[i].iov_len < left ? parts[i].iov_len : left;
    if (offset < 0) {
      syscall(SYS_write, descriptor, parts[i].iov_base, bytes);
    } else {
      syscall(SYS_pwrite64, descriptor, parts[i].iov_base, bytes, offset);
      offset += static_cast<off_t>(bytes);
    }
    left -= bytes;
  }
}

bool is_refused(const Call& call, int descriptor, const iovec* parts, int count, off_t offset) {
  if (call.action() == Action::torn) write_half(descriptor, parts, count, offset);
  return call.is_refused();
}

bool is_refused(const Call& call, int descriptor, const void* data, size_t bytes, off_t offset) {
  const iovec part{const_cast<void*>(data), bytes};
  return is_refused(call, descriptor, &part, 1, offset);
}

}  // namespace

extern "C" {

int open(const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_file(AT_FDCWD, name, flags, mode);
}

int open64(const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_file(AT_FDCWD, name, flags, mode);
}

int openat(int folder, const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_file(folder, name, flags, mode);
}

int openat64(int folder, const char* name, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_file(folder, name, flags, mode);
}

int creat(const char* name, mode_t mode) {
  return open_file(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int creat64(const char* name, mode_t mode) {
  return open_file(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

FILE* fopen64(const char* name, const char* mode) {
  static const auto real = next<FILE*(const char*, const char*)>("fopen64");
  std::optional<Call> call;
  if (is_stream_for_writing(mode)) call.emplace("open", path_of(AT_FDCWD, name));
  return call && call->is_refused() ? nullptr : real(name, mode);
}

ssize_t write(int descriptor, const void* data, size_t bytes) {
  static const auto real = next<ssize_t(int, const void*, size_t)>("write");
  const Call call("write", path_of(descriptor));
  if (is_refused(call, descriptor, data, bytes, -1)) return -1;
  return real(descriptor, data, bytes);
}

ssize_t writev(int descriptor, const iovec* parts, int count) {
  static const auto real = next<ssize_t(int, const iovec*, int)>("writev");
  const Call call("write", path_of(descriptor));
  if (is_refused(call, descriptor, parts, count, -1)) return -1;
  return real(descriptor, parts, count);
}

ssize_t pwrite(int descriptor, const void* data, size_t bytes, off_t offset) {
  static const auto real = next<ssize_t(int, const void*, size_t, off_t)>("pwrite");
  const Call call("write", path_of(descriptor));
  if (is_refused(call, descriptor, data, bytes, offset)) return -1;
  return real(descriptor, data, bytes, offset);
}

ssize_t pwrite64(int descriptor, const void* data, size_t bytes, off64_t offset) {
  static const auto real = next<ssize_t(int, const void*, size_t, off64_t)>("pwrite64");
  const Call call("write", path_of(descriptor));
  if (is_refused(call, descriptor, data, bytes, offset)) return -1;
  return real(descriptor, data, bytes, offset);
}

FILE* fopen(const char* name, const char* mode) {
  static const auto real = next<FILE*(const char*, const char*)>("fopen");
  std::optional<Call> call;
  if (is_stream_for_writing(mode)) call.emplace("open", path_of(AT_FDCWD, name));
  if (call && call->is_refused()) return nullptr;
  FILE* inner = real(name, mode);
  if (inner == nullptr || mode[0] == 'r' || !is_watched(path_of(AT_FDCWD, name))) return inner;
  // The C library writes by inner calls that cannot be replaced, so the stream is made anew.
  cookie_io_functions_t functions{};
  functions.write = [](void* cookie, const char* data, size_t bytes) {
    const ssize_t written = write(fileno(static_cast<FILE*>(cookie)), data, bytes);
    return written < 0 ? ssize_t{0} : written;  // 0 is the failure of a stream, with errno
  };
  functions.close = [](void* cookie) { return std::fclose(static_cast<FILE*>(cookie)); };
  return fopencookie(inner, mode, functions);
}

int fsync(int descriptor) {
  static const auto real = next<int(int)>("fsync");
  const Call call("fsync", path_of(descriptor));
  return call.is_refused() ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
  static const auto real = next<int(int)>("fdatasync");
  const Call call("fsync", path_of(descriptor));
  return call.is_refused() ? -1 : real(descriptor);
}

int rename(const char* from, const char* to) noexcept {
  static const auto real = next<int(const char*, const char*)>("rename");
  const Call call("rename", path_of(AT_FDCWD, from), path_of(AT_FDCWD, to));
  return call.is_refused() ? -1 : real(from, to);
}

int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  static const auto real = next<int(int, const char*, int, const char*)>("renameat");
  const Call call("rename", path_of(from_folder, from), path_of(to_folder, to));
  return call.is_refused() ? -1 : real(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) noexcept {
  static const auto real = next<int(int, const char*, int, const char*, unsigned)>("renameat2");
  const Call call("rename", path_of(from_folder, from), path_of(to_folder, to));
  return call.is_refused() ? -1 : real(from_folder, from, to_folder, to, flags);
}

int mkdir(const char* name, mode_t mode) noexcept {
  static const auto real = next<int(const char*, mode_t)>("mkdir");
  const Call call("mkdir", path_of(AT_FDCWD, name));
  return call.is_refused() ? -1 : real(name, mode);
}

int unlink(const char* name) noexcept {
  static const auto real = next<int(const char*)>("unlink");
  const Call call("remove", path_of(AT_FDCWD, name));
  return call.is_refused() ? -1 : real(name);
}

int unlinkat(int folder, const char* name, int flags) noexcept {
  static const auto real = next<int(int, const char*, int)>("unlinkat");
  const Call call("remove", path_of(folder, name));
  return call.is_refused() ? -1 : real(folder, name, flags);
}

int rmdir(const char* name) noexcept {
  static const auto real = next<int(const char*)>("rmdir");
  const Call call("remove", path_of(AT_FDCWD, name));
  return call.is_refused() ? -1 : real(name);
}

int remove(const char* name) noexcept {
  static const auto real = next<int(const char*)>("remove");
  const Call call("remove", path_of(AT_FDCWD, name));
  return call.is_refused() ? -1 : real(name);
}

int ftruncate(int descriptor, off_t length) noexcept {
  static const auto real = next<int(int, off_t)>("ftruncate");
  const Call call("truncate", path_of(descriptor));
  return call.is_refused() ? -1 : real(descriptor, length);
}

int ftruncate64(int descriptor, off64_t length) noexcept {
  static const auto real = next<int(int, off64_t)>("ftruncate64");
  const Call call("truncate", path_of(descriptor));
  return call.is_refused() ? -1 : real(descriptor, length);
}

}  // extern "C"

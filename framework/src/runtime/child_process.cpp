#include "kvlab/runtime/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>
#include <utility>

#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"

extern char** environ;

namespace kvlab {

namespace {

constexpr int kLine = 3;  // descriptor of the line inside the child
constexpr size_t kReadAtOnce = 65536;
constexpr size_t kLongestLogLine = 200;

// So often a waiting parent looks for an interruption, and whether the child still lives.
constexpr std::chrono::milliseconds kLook{100};

// Both ends of a line; the ends close themselves.
struct LinePair {
  int ends[2] = {-1, -1};

  LinePair() {
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      throw UserError(detail::concat("[runtime.child_process] no line to a child can be opened: ",
                                     std::strerror(errno)));
    }
  }
  ~LinePair() {
    for (const int end : ends) {
      if (end >= 0) ::close(end);
    }
  }
  LinePair(const LinePair&) = delete;
  LinePair& operator=(const LinePair&) = delete;
};

struct SpawnActions {
  posix_spawn_file_actions_t value;
  SpawnActions() { posix_spawn_file_actions_init(&value); }
  ~SpawnActions() { posix_spawn_file_actions_destroy(&value); }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;
};

struct SpawnAttributes {
  posix_spawnattr_t value;
  SpawnAttributes() { posix_spawnattr_init(&value); }
  ~SpawnAttributes() { posix_spawnattr_destroy(&value); }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;
};

// The terminal's Ctrl-C reaches only its own group: the parent decides what ends. What the parent
// ignores or blocks is no business of the child.
void set_attributes(SpawnAttributes& attributes) {
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  for (const int number : {SIGINT, SIGTERM, SIGPIPE, SIGHUP, SIGCHLD}) {
    sigaddset(&defaults, number);
  }
  posix_spawnattr_setpgroup(&attributes.value, 0);
  posix_spawnattr_setsigmask(&attributes.value, &none);
  posix_spawnattr_setsigdefault(&attributes.value, &defaults);
  posix_spawnattr_setflags(&attributes.value,
                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

// Takes the first line off `text`.
std::optional<std::string> take_line(std::string& text, size_t search_from) {
  const size_t end = text.find('\n', search_from);
  if (end == std::string::npos) return std::nullopt;
  std::string line = text.substr(0, end);
  text.erase(0, end + 1);
  return line;
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

void check_waited(bool waited, pid_t process) {
  KVLAB_INVARIANT(waited, "[runtime.child_process] the system does not say how process ", process,
                  " ended (", std::strerror(errno),
                  "); call prepare_process, and wait for no process that is not yours");
}

// Private writable memory that the process holds, as RLIMIT_DATA counts it.
int64_t data_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmData:")) return std::stoll(line.substr(7)) * 1024;
  }
  throw UserError(
      "[runtime.child_process] /proc/self/status does not say how much memory the "
      "process holds; run without a memory limit");
}

}  // namespace

std::string describe_signal(int signal) {
  const char* name = ::sigdescr_np(signal);
  std::string words = name == nullptr ? "unknown" : name;
  if (!words.empty()) words[0] = static_cast<char>(std::tolower(words[0]));
  return detail::concat("signal ", signal, " (", words, ")");
}

std::vector<std::string> last_lines(const std::string& path, size_t count) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const auto size = static_cast<int64_t>(file.tellg());
  const int64_t wanted = std::min<int64_t>(size, static_cast<int64_t>(kReadAtOnce));
  file.seekg(size - wanted);
  std::string text(static_cast<size_t>(wanted), '\0');
  file.read(text.data(), wanted);
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.empty()) continue;
    for (char& c : line) {
      if (c < ' ' || c > '~') c = '?';
    }
    if (line.size() > kLongestLogLine) line = line.substr(0, kLongestLogLine) + " ...";
    lines.push_back(std::move(line));
  }
  if (lines.size() > count) lines.erase(lines.begin(), lines.end() - static_cast<long>(count));
  return lines;
}

// The descriptors of a child that is about to be started.
struct ChildProcess::Start {
  LinePair pair;
  SpawnActions actions;

  explicit Start(int line) {
    posix_spawn_file_actions_adddup2(&actions.value, pair.ends[1], line);
    posix_spawn_file_actions_addopen(&actions.value, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  }
};

ChildProcess::ChildProcess(const std::vector<std::string>& arguments, const std::string& log_file) {
  Start parts(kLine);
  posix_spawn_file_actions_addopen(&parts.actions.value, STDOUT_FILENO, log_file.c_str(),
                                   O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&parts.actions.value, STDOUT_FILENO, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&parts.actions.value, kLine + 1);
  start(arguments, parts, " with its output in '" + log_file + "'");
}

ChildProcess::ChildProcess(const std::vector<std::string>& arguments) {
  Start parts(STDOUT_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&parts.actions.value, STDERR_FILENO + 1);
  start(arguments, parts, "");
}

void ChildProcess::start(const std::vector<std::string>& arguments, Start& parts,
                         const std::string& details) {
  SpawnAttributes attributes;
  set_attributes(attributes);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int failure =
      ::posix_spawn(&process_, argv[0], &parts.actions.value, &attributes.value, argv.data(),
                    environ);
  if (failure != 0) {
    process_ = -1;
    throw UserError(detail::concat("[runtime.child_process] '", arguments[0],
                                   "' cannot be started", details, ": ", std::strerror(failure)));
  }
  std::swap(descriptor_, parts.pair.ends[0]);
}

ChildProcess::~ChildProcess() {
  if (process_ <= 0) return;
  try {
    finish(0);
  } catch (const InternalError&) {
    // Nobody asks how it ended.
  }
}

std::string ChildProcess::take_rest() { return std::exchange(unread_, {}); }

bool ChildProcess::send(std::string_view line) {
  const std::string text = std::string(line) + "\n";
  const ssize_t sent = ::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == static_cast<ssize_t>(text.size());
}

// Leaves the end itself to `finish`.
bool ChildProcess::ended() const {
  siginfo_t info{};
  int result = 0;
  while ((result = ::waitid(P_PID, static_cast<id_t>(process_), &info,
                            WEXITED | WNOHANG | WNOWAIT)) < 0 &&
         errno == EINTR) {
  }
  check_waited(result == 0, process_);
  return info.si_pid == process_;
}

ChildProcess::Reading ChildProcess::read_line(std::string& line,
                                              std::optional<Clock::time_point> deadline) {
  size_t searched = 0;
  bool last_look = false;
  std::string buffer(kReadAtOnce, '\0');
  while (true) {
    if (auto found = take_line(unread_, searched)) {
      line = std::move(*found);
      return Reading::line;
    }
    searched = unread_.size();
    if (unread_.size() > kLongestLine) return Reading::too_long;
    check_interrupted();
    auto wait = kLook;
    if (deadline) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(*deadline - Clock::now());
      if (left.count() < 0) return Reading::timed_out;
      wait = std::min(wait, left + std::chrono::milliseconds(1));
    }
    pollfd waiting{descriptor_, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, last_look ? 0 : static_cast<int>(wait.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      // A grandchild may hold the line open; what the child itself sent has come by then.
      if (last_look) return Reading::closed;
      last_look = ended();
      continue;
    }
    const ssize_t count = ::recv(descriptor_, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count <= 0) return Reading::closed;
    unread_.append(buffer.data(), static_cast<size_t>(count));
  }
}

ChildEnd ChildProcess::finish(double patience) {
  ::close(descriptor_);
  descriptor_ = -1;
  const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(patience));
  while (!ended() && Clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  // The child's number is not given to another process before it has been waited for.
  const bool by_itself = ended();
  ::kill(-process_, SIGKILL);
  ::kill(process_, SIGKILL);
  const pid_t process = std::exchange(process_, -1);
  int status = 0;
  rusage usage{};
  pid_t waited = -1;
  while ((waited = ::wait4(process, &status, 0, &usage)) < 0 && errno == EINTR) {
  }
  check_waited(waited == process, process);
  ChildEnd end;
  if (WIFSIGNALED(status)) {
    end.signal = WTERMSIG(status);
    end.stopped = !by_itself && end.signal == SIGKILL;
  } else {
    end.exit_code = WEXITSTATUS(status);
  }
  end.cpu_seconds = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  end.peak_resident_bytes = static_cast<int64_t>(usage.ru_maxrss) * 1024;
  return end;
}

ParentConnection::ParentConnection(pid_t parent) {
  struct stat line {};
  if (::getppid() != parent || ::fstat(kLine, &line) != 0 || !S_ISSOCK(line.st_mode)) {
    throw UserError(
        detail::concat("[runtime.child_process] this program was not started by process ", parent,
                       "; it is started by a run that needs it"));
  }
  device_ = line.st_dev;
  inode_ = line.st_ino;
  ::fcntl(kLine, F_SETFD, FD_CLOEXEC);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // It may have died in between.
  if (::getppid() != parent) ::_exit(kLostCode);
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

// Somebody may have closed the descriptor, and another file may have its number by now.
void ParentConnection::check() const {
  struct stat line {};
  if (::fstat(kLine, &line) == 0 && line.st_dev == device_ && line.st_ino == inode_) return;
  std::cerr << "kvlab: the line to the program that started this one was closed from inside"
            << std::endl;
  ::_exit(kLostCode);
}

std::optional<std::string> ParentConnection::read_line() {
  char buffer[4096];
  while (true) {
    if (auto line = take_line(unread_, 0)) return line;
    check();
    const ssize_t count = ::read(kLine, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return std::nullopt;
    unread_.append(buffer, static_cast<size_t>(count));
  }
}

void ParentConnection::send(std::string_view line) {
  check();
  std::string text = std::string(line) + "\n";
  std::string_view left = text;
  while (!left.empty()) {
    const ssize_t sent = ::send(kLine, left.data(), left.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) ::_exit(kLostCode);
    left.remove_prefix(static_cast<size_t>(sent));
  }
}

void limit_memory(int64_t bytes) {
  const auto most = static_cast<rlim_t>(data_bytes() + bytes);
  const rlimit limit{most, most};
  if (::setrlimit(RLIMIT_DATA, &limit) != 0) {
    throw UserError(detail::concat(
        "[runtime.child_process] the system does not take a memory limit: ", std::strerror(errno)));
  }
}

}  // namespace kvlab

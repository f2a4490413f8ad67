// Programs that this one starts and talks to line by line: how they are started, limited, watched
// and cleaned up, and the other end of the line inside them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvlab {

/// How a child ended, and what it used.
struct ChildEnd {
  int exit_code = 0;     ///< where no signal ended it
  int signal = 0;        ///< 0: none
  bool stopped = false;  ///< it did not end by itself and was killed
  double cpu_seconds = 0;
  int64_t peak_resident_bytes = 0;
};

/// "signal 11 (segmentation fault)"
std::string describe_signal(int signal);

/// The last `count` lines of a text file, at most 200 characters each, everything but printable
/// ASCII replaced by '?'. Reads no more than the end of the file. Empty where there is none.
std::vector<std::string> last_lines(const std::string& path, size_t count);

/// A program that was started from this one, in a process group of its own, with standard input
/// from /dev/null and no other descriptors than those named here. A plain fork would copy the state
/// of threads that do not exist in the child; the program is started afresh instead. `read_line`,
/// `ended` and `finish` throw InternalError where the system does not say how the child ended;
/// `prepare_process` makes it do so.
class ChildProcess {
 public:
  using Clock = std::chrono::steady_clock;

  /// Starts `arguments[0]`, a path, with a line to talk to this program (`ParentConnection`), and
  /// standard output and error in the log file, which is created or emptied. Throws UserError where
  /// that fails.
  ChildProcess(const std::vector<std::string>& arguments, const std::string& log_file);

  /// Starts `arguments[0]`, a path, whose standard output is what `read_line` reads; standard error
  /// is this program's. Throws UserError where that fails.
  explicit ChildProcess(const std::vector<std::string>& arguments);

  /// Ends the whole group where it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Sends one line. Returns false where the child does not take it. Never blocks.
  bool send(std::string_view line);

  enum class Reading {
    line,       ///< `line` holds one, without its end
    closed,     ///< the child has ended or closed its side
    timed_out,  ///< nothing came before the deadline
    too_long,   ///< more than `kLongestLine` bytes without an end
  };
  static constexpr size_t kLongestLine = size_t{64} << 20;

  /// Waits for the next line. Throws InterruptedError where the user asked for a stop.
  Reading read_line(std::string& line, std::optional<Clock::time_point> deadline);

  /// Takes what has been read and is no whole line.
  std::string take_rest();

  /// Whether the child has ended by itself; `finish` says how.
  bool ended() const;

  /// Closes the line, waits at most `patience` seconds for the child's own end, and then ends the
  /// whole group by force: SIGKILL. May be called once.
  ChildEnd finish(double patience);

 private:
  struct Start;
  void start(const std::vector<std::string>& arguments, Start& parts, const std::string& details);

  pid_t process_ = -1;
  int descriptor_ = -1;
  std::string unread_;
};

/// The line to the program that started this one as a `ChildProcess`.
class ParentConnection {
 public:
  /// Takes over the line. From here on this process dies with `parent` (with the thread that
  /// started it) and leaves no core file. Throws UserError where `parent` did not start it so.
  explicit ParentConnection(pid_t parent);

  /// The next line; nothing where the parent has closed its side.
  std::optional<std::string> read_line();

  void send(std::string_view line);

  /// With this code the process ends where the line is gone: somebody closed its descriptor.
  static constexpr int kLostCode = 71;

 private:
  void check() const;

  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::string unread_;
};

/// Lets this process take `bytes` more memory than it holds now (private writable pages, shared by
/// no other process); beyond that allocations fail. Throws UserError where the system refuses.
void limit_memory(int64_t bytes);

}  // namespace kvlab

// One arm of an experiment in a process of its own: the run's side, which asks, and the arm's side,
// which answers. What is asked is the experiment kind's affair: one line of JSON each way.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "kvlab/core/error.h"
#include "kvlab/runtime/child_process.h"
#include "kvlab/runtime/experiment_config.h"

namespace kvlab {

/// What an arm does in its own process.
class ArmService {
 public:
  virtual ~ArmService() = default;

  /// Facts about the loaded arm, as one line of JSON; asked once, before anything else.
  virtual std::string describe() { return "{}"; }

  /// Answers one request. Both are one line of JSON. What it throws is the arm's failure.
  virtual std::string answer(const std::string& request) = 0;
};

/// An arm's process failed: says how, with the last lines of its log and what it used.
class ArmProcessError : public Error {
 public:
  using Error::Error;
};

struct ArmProcessOptions {
  std::string program;   ///< the kvlab command line
  std::string config;    ///< resolved config of the run; it names the plugin libraries too
  std::string arm;       ///< its name there
  std::string log_file;  ///< takes what the process prints
  ArmLimits limits;
  double end_seconds = 10;  ///< it may take from being told to end to its end
};

/// The run's side. Starts the program again, with the command `arm-process`. Time counts only while
/// this side waits for an answer. Every function throws ArmProcessError where the process failed,
/// and has ended it then; InterruptedError where the user asked for a stop.
class ArmProcess {
 public:
  explicit ArmProcess(ArmProcessOptions options);

  /// Waits until model and arm are loaded. Returns `ArmService::describe`.
  std::string wait_until_loaded();

  std::string ask(const std::string& request);

  /// Ends the process since its last answer makes no sense, and throws.
  [[noreturn]] void reject_answer(const std::string& why);

  /// Lets the process end. Only one that says so itself and then ends with code 0 has not failed.
  ChildEnd finish();

 private:
  struct Reply {
    std::string word, text;
  };
  Reply await_reply(std::optional<double> seconds, const std::string& late);
  void check_there() const;
  Reply parse_reply(const std::string& line);
  [[noreturn]] void fail_with(const Reply& reply);
  [[noreturn]] void fail(const std::string& what);
  [[noreturn]] void fail_closed();
  std::string after_end(const ChildEnd& end) const;

  ArmProcessOptions options_;
  std::unique_ptr<ChildProcess> child_;
  int64_t asked_ = 0;
  double used_seconds_ = 0;
};

/// What the command `arm-process` is told.
struct ArmServingOptions {
  pid_t parent = 0;
  std::optional<int64_t> memory_bytes;  ///< takes effect when the arm is loaded
};

/// The arm's side: loads with `load`, then answers until the run lets it go. Returns the exit code.
int serve_arm_process(const ArmServingOptions& options,
                      const std::function<std::unique_ptr<ArmService>()>& load);

}  // namespace kvlab

// A cluster of one node on this machine, for the time of a test.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/survival/tiny_sweeps.h"

namespace kvlab::survival {

/// munged, slurmctld and slurmd on the loopback interface with all their state in a temporary
/// folder. They end with the object, and with the test program where that is killed.
class SlurmService {
 public:
  /// Why there can be none here, e.g. "not root"; "" where there can.
  static std::string hindrance();

  /// Starts it. Throws std::runtime_error with the end of the logs where it does not come up.
  SlurmService();
  ~SlurmService();
  SlurmService(const SlurmService&) = delete;
  SlurmService& operator=(const SlurmService&) = delete;

  /// Runs a program that talks to this cluster.
  ProgramResult run(std::vector<std::string> words) const;

  /// Waits until no job is queued or running. Returns false where `seconds` pass before.
  bool wait_until_idle(double seconds) const;

  /// The ends of all logs, for the message of a failed test.
  std::string logs() const;

 private:
  std::string file(const std::string& name) const { return folder_.path() + "/" + name; }
  void write_key() const;
  void write_config() const;
  std::unique_ptr<RunningProgram> start(const std::string& name, const std::string& options) const;

  TestFolder folder_;
  std::unique_ptr<RunningProgram> munged_, controller_, node_;
};

}  // namespace kvlab::survival

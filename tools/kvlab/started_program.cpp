#include "started_program.h"

#include <chrono>
#include <filesystem>
#include <thread>

#include "kvlab/runtime/process.h"

namespace kvlab {

namespace {

using Reading = ChildProcess::Reading;

// Hands on whole lines, and what is left at the end.
void pass_on(ChildProcess& child, ChildProcess::Clock::time_point deadline,
             const std::function<void(std::string_view)>& on_line) {
  std::string line;
  Reading reading = Reading::line;
  while (reading == Reading::line || reading == Reading::too_long) {
    reading = child.read_line(line, deadline);
    if (reading != Reading::line) line = child.take_rest();
    if (reading == Reading::line || !line.empty()) on_line(line);
  }
}

}  // namespace

ChildEnd run_started_program(const std::vector<std::string>& arguments,
                             ChildProcess::Clock::time_point deadline,
                             const std::function<void(std::string_view)>& on_line) {
  ChildProcess child(arguments);
  pass_on(child, deadline, on_line);
  // It may have closed its output long before its end.
  while (!child.ended() && ChildProcess::Clock::now() < deadline) {
    check_interrupted();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return child.finish(0);
}

std::string own_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

}  // namespace kvlab

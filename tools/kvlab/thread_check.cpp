#include "thread_check.h"

#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "kvlab/runtime/process.h"

namespace kvlab {

namespace {

constexpr int64_t kSide = 512;
constexpr auto kDuration = std::chrono::milliseconds(500);
// Clock ticks are 10 ms; a thread with fewer than these did not take part.
constexpr int64_t kTicksOfWork = 5;

// Clock ticks on a processor, per thread of this process.
std::map<std::string, int64_t> ticks_of_threads() {
  std::map<std::string, int64_t> ticks;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task", ignored)) {
    std::ifstream file(entry.path() / "stat");
    std::string line;
    std::getline(file, line);
    const size_t name_end = line.rfind(')');
    if (name_end == std::string::npos) continue;
    // After the name: state and ten numbers, then user and system time.
    std::istringstream fields(line.substr(name_end + 1));
    std::string skipped;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    int64_t user = 0, system = 0;
    fields >> user >> system;
    ticks[entry.path().filename().string()] = user + system;
  }
  return ticks;
}

}  // namespace

int64_t threads_that_compute(int count) {
  const int before_count = threads();
  set_threads(count);
  const at::Tensor matrix = at::ones({kSide, kSide});
  auto before = ticks_of_threads();
  const auto end = std::chrono::steady_clock::now() + kDuration;
  while (std::chrono::steady_clock::now() < end) at::mm(matrix, matrix);
  int64_t working = 0;
  for (const auto& [thread, ticks] : ticks_of_threads()) {
    if (ticks - before[thread] >= kTicksOfWork) ++working;
  }
  set_threads(before_count);
  return working;
}

}  // namespace kvlab

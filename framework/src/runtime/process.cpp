#include "kvlab/runtime/process.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/GradMode.h>
#include <malloc.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <fstream>

#include "kvlab/kernels/target.h"

namespace kvlab {

namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "signal handlers need it");

void on_signal(int number) {
  if (stop_requested.exchange(true)) {
    std::signal(number, SIG_DFL);
    std::raise(number);
  }
}

// Only the variable can do it in every program: tests and benchmarks have no option for it.
void use_requested_target() {
  const char* wanted = std::getenv("KVLAB_SIMD_TARGET");
  if (wanted == nullptr || *wanted == '\0') return;
  try {
    kernels::use_target(wanted);
  } catch (const UserError& error) {
    throw UserError(detail::concat("[runtime.KVLAB_SIMD_TARGET] the environment asks for '", wanted,
                                   "': ", error.what()));
  }
}

}  // namespace

void prepare_process() {
  at::globalContext().setFlushDenormal(true);
  c10::GradMode::set_enabled(false);
  // A parent may have left it ignored: then nobody can ask how a child ended.
  std::signal(SIGCHLD, SIG_DFL);
  // Step tensors come and go; mapping them anew each time costs page faults in every step.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  use_requested_target();
}

void set_threads(int threads) {
  KVLAB_CHECK_GE(threads, 1, "[runtime.threads] number of threads");
  at::set_num_threads(threads);
}

int threads() { return at::get_num_threads(); }

void handle_interrupts() {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

bool interrupted() { return stop_requested.load(); }
void request_interrupt() { stop_requested = true; }
void clear_interrupt() { stop_requested = false; }

void check_interrupted() {
  if (interrupted()) throw InterruptedError("[runtime] interrupted; results so far are kept");
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    if (!line.starts_with("model name")) continue;
    const size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    if (begin != std::string::npos) return line.substr(begin);
  }
  return "unknown";
}

int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace kvlab

#include "kvlab/runtime/arm_runs.h"

#include <c10/util/Exception.h>
#include <sys/resource.h>

#include <numeric>
#include <random>

#include "kvlab/runtime/process.h"

namespace kvlab {

std::vector<std::pair<int, size_t>> run_order(const MeasureConfig& measure, size_t arms,
                                              uint64_t stream) {
  std::vector<std::pair<int, size_t>> runs;
  if (!measure.interleave) {
    for (size_t arm = 0; arm < arms; ++arm) {
      for (int block = 0; block < measure.repeats; ++block) runs.emplace_back(block, arm);
    }
    return runs;
  }
  std::mt19937_64 random(measure.seed + stream);
  std::vector<size_t> order(arms);
  std::iota(order.begin(), order.end(), size_t{0});
  for (int block = 0; block < measure.repeats; ++block) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
    for (const size_t arm : order) runs.emplace_back(block, arm);
  }
  return runs;
}

std::optional<std::string> failure_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const InterruptedError&) {
    throw;
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "threw something that is no std::exception";
  }
  return std::nullopt;
}

int64_t involuntary_switches() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

}  // namespace kvlab

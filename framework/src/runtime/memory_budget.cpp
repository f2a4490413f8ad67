// How much memory there is, and how much a cache will take of it.
#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "kvlab/core/error.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

namespace {

// A number from a one-line file; `fallback` where it is missing or says "max".
int64_t read_bytes(const char* path, int64_t fallback) {
  std::ifstream file(path);
  int64_t bytes = 0;
  return file >> bytes ? bytes : fallback;
}

// Peak of a run that fills every row up to `length`, one token at a time after the first chunk.
int64_t estimated_peak(const Registry& registry, const ComponentSpec& cache,
                       const CacheShape& shape, int64_t length) {
  const std::vector<int64_t> prompts(static_cast<size_t>(shape.rows), length);
  const int64_t chunk = shape.max_step_tokens >= length ? 0 : shape.max_step_tokens;
  return registry
      .estimate_cache(cache, shape, StepSequence::prefill_then_decode(prompts, 1, chunk))
      .peak_total;
}

}  // namespace

int64_t available_memory() {
  constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
  int64_t available = kUnlimited;
  std::ifstream meminfo("/proc/meminfo");
  std::string key, unit;
  int64_t kibibytes = 0;
  while (meminfo >> key >> kibibytes >> unit) {
    if (key == "MemAvailable:") available = kibibytes * 1024;
  }
  const int64_t limit = read_bytes("/sys/fs/cgroup/memory.max", kUnlimited);
  if (limit != kUnlimited) {
    available = std::min(available, limit - read_bytes("/sys/fs/cgroup/memory.current", 0));
  }
  return available;
}

int64_t longest_fit(const Registry& registry, const ComponentSpec& cache, CacheShape shape,
                    int64_t bytes) {
  const int64_t most = shape.max_length;
  const int64_t step = shape.max_step_tokens;
  int64_t low = 0, high = most;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    shape.max_length = middle;
    shape.max_step_tokens = std::min(step, middle);
    if (estimated_peak(registry, cache, shape, middle) <= bytes) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

void check_memory(const Registry& registry, const SessionOptions& options, const CacheShape& shape,
                  int64_t length) {
  const int64_t available = options.memory_limit.value_or(available_memory());
  const int64_t needed = estimated_peak(registry, options.cache, shape, length);
  if (needed <= available) return;
  throw CapacityError(detail::concat(
      "[runtime.memory] cache '", to_string(options.cache), "' needs ", needed, " bytes for ",
      shape.rows, " row(s) of ", length, " tokens, ", available,
      " are available. The longest length that fits is ",
      longest_fit(registry, options.cache, shape, available), " tokens"));
}

}  // namespace kvlab

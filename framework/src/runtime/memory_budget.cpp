// How much memory there is, and how much a cache will take of it.
#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "kvlab/core/error.h"
#include "kvlab/kernels/linear.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

namespace {

// A number from a one-line file; `fallback` where it is missing or says "max".
int64_t read_bytes(const char* path, int64_t fallback) {
  std::ifstream file(path);
  int64_t bytes = 0;
  return file >> bytes ? bytes : fallback;
}

// A value of /sys/fs/cgroup/memory.stat; 0 where it is missing.
int64_t cgroup_statistic(const std::string& wanted) {
  std::ifstream file("/sys/fs/cgroup/memory.stat");
  std::string key;
  int64_t value = 0;
  while (file >> key >> value) {
    if (key == wanted) return value;
  }
  return 0;
}

// Whether the cache holds `length` tokens in every row within `bytes`.
bool fits(const Registry& registry, const ComponentSpec& cache, const CacheShape& shape,
          int64_t length, int64_t bytes) {
  try {
    return filled_usage(registry, cache, shape, length).peak_total <= bytes;
  } catch (const CapacityError&) {
    return false;
  }
}

// Peak bytes; a cache whose own capacity ends earlier refuses longer texts step by step, so it is
// judged by what it can hold.
int64_t peak_for(const Registry& registry, const ComponentSpec& cache, const CacheShape& shape,
                 int64_t length) {
  try {
    return filled_usage(registry, cache, shape, length).peak_total;
  } catch (const CapacityError&) {
    return registry.estimate_cache(cache, shape, StepSequence{}).peak_total;
  }
}

struct MatrixSize {
  int64_t rows, columns;
};

MatrixSize largest_matrix(const ModelConfig& model) {
  const int64_t up_rows = model.mlp == MlpType::swiglu ? 2 * model.d_mlp : model.d_mlp;
  const int64_t qkv_rows = (model.n_heads + 2 * model.n_kv_heads) * model.head_dim;
  return {std::max({model.vocabulary, up_rows, qkv_rows}), model.d_model};
}

// Codes come with a bf16 scale per group of columns.
int64_t bytes_of_matrix(MatrixSize size, at::ScalarType type) {
  const int64_t weights = size.rows * size.columns * static_cast<int64_t>(c10::elementSize(type));
  if (type != at::kChar) return weights;
  const int64_t groups = (size.columns + kernels::kScaleGroup - 1) / kernels::kScaleGroup;
  return weights + size.rows * groups * static_cast<int64_t>(c10::elementSize(at::kBFloat16));
}

}  // namespace

MemoryUsage filled_usage(const Registry& registry, const ComponentSpec& cache,
                         const CacheShape& shape, int64_t length) {
  const int64_t prefill = std::max<int64_t>(length - 1, 1);
  const std::vector<int64_t> prompts(static_cast<size_t>(shape.rows), prefill);
  const int64_t chunk = shape.max_step_tokens >= prefill ? 0 : shape.max_step_tokens;
  return registry.estimate_cache(
      cache, shape, StepSequence::prefill_then_decode(prompts, length > 1 ? 2 : 1, chunk));
}

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
    // Cached file pages count as used but give way at once.
    const int64_t used = read_bytes("/sys/fs/cgroup/memory.current", 0);
    available = std::min(available, limit - used + cgroup_statistic("inactive_file"));
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
    if (fits(registry, cache, shape, middle, bytes)) {
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
  const int64_t needed = peak_for(registry, options.cache, shape, length);
  if (needed <= available) return;
  throw CapacityError(detail::concat(
      "[runtime.memory] cache '", to_string(options.cache), "' needs ", needed, " bytes for ",
      shape.rows, " row(s) of ", length, " tokens, ",
      options.memory_limit ? "the limit is " : "available are ", available,
      ". The longest length that fits is ",
      longest_fit(registry, options.cache, shape, available), " tokens"));
}

void check_weights_fit(const ModelConfig& model, at::ScalarType type) {
  // Weights are read or drawn in f32, then cast and moved tensor by tensor.
  const int64_t needed =
      model.parameters() * static_cast<int64_t>(c10::elementSize(at::kFloat)) +
      bytes_of_matrix(largest_matrix(model), type);
  const int64_t available = available_memory();
  if (needed <= available) return;
  throw CapacityError(detail::concat(
      "[runtime.memory] the weights of model '", model.name, "' need ", needed, " bytes while they "
      "are loaded in f32 (", model.parameters(), " parameters, kept as ", dtype_name(type),
      "), available are ", available, ". Take a smaller model; `kvlab memory` needs no weights"));
}

}  // namespace kvlab

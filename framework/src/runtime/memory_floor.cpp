#include "kvlab/runtime/memory_floor.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "kvlab/core/byte_size.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/session.h"

namespace kvlab {

namespace {

constexpr int64_t kSmallestProbe = int64_t{16} << 20;

}  // namespace

int64_t parse_probe_bytes(ConfigReader& reader, const std::string& key) {
  const auto node = reader.optional_value(key);
  const auto bytes = !node               ? std::optional(kProbeBytes)
                     : node->is_scalar() ? parse_byte_size(node->text())
                                         : std::nullopt;
  if (!bytes) {
    reader.fail(key, "wanted a size like 1GiB, far above the last-level cache, got " +
                         node->description());
  }
  if (*bytes < kSmallestProbe) {
    reader.fail(key, fmt::format("{} fit the CPU's caches, which are faster than memory; wanted at "
                                 "least 16MiB, better 1GiB",
                                 format_byte_size(*bytes)));
  }
  if (const int64_t available = available_memory(); *bytes > available) {
    reader.fail(key, fmt::format("the bandwidth measurement needs {}, {} are available; choose "
                                 "less, still far above the last-level cache",
                                 format_byte_size(*bytes), format_byte_size(available)));
  }
  return *bytes;
}

double floor_ms(const StepBytes& bytes, double bytes_per_second) {
  KVLAB_CHECK(bytes_per_second > 0, "[runtime.floor_ms] bytes per second must be above 0, got ",
              bytes_per_second, ". Measure the bandwidth first");
  return bytes.total() * 1e3 / bytes_per_second;
}

double floor_share(const StepBytes& bytes, double bytes_per_second, double step_ms) {
  KVLAB_CHECK(step_ms > 0, "[runtime.floor_share] the time of a step must be above 0, got ",
              step_ms, ". Time at least one step");
  return floor_ms(bytes, bytes_per_second) / step_ms;
}

BlockBandwidth::BlockBandwidth(std::function<kernels::ReadSpeed()> measure)
    : measure_(std::move(measure)), begin_(measure_()) {}

kernels::ReadSpeed BlockBandwidth::end_block() {
  const kernels::ReadSpeed end = measure_();
  const kernels::ReadSpeed faster =
      end.bytes_per_second > begin_.bytes_per_second ? end : begin_;
  begin_ = end;
  return faster;
}

}  // namespace kvlab

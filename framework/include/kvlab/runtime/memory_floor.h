// The floor under a decode step: the time that reading its bytes takes at the speed that the memory
// was measured to have beside it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "kvlab/kernels/read_probe.h"
#include "kvlab/runtime/config_reader.h"

namespace kvlab {

/// Memory that a probe reads where the config does not say: far above any last-level cache.
inline constexpr int64_t kProbeBytes = int64_t{1} << 30;

/// Fewer bytes of weights stay in the CPU's caches between two steps: then reading them from memory
/// is no floor, and shares of bytes say nothing of time.
inline constexpr int64_t kSmallestStreamedWeights = int64_t{16} << 20;

/// Reads how much memory the probe reads, as "1GiB". Throws UserError for what is no size, fits the
/// CPU's caches, or is more than the machine has.
int64_t parse_probe_bytes(ConfigReader& reader, const std::string& key = "probe");

/// What one decode step must read, in bytes.
struct StepBytes {
  double weights = 0;  ///< see `streamed_weight_bytes`
  double kv = 0;       ///< see `readable_kv_bytes`

  double total() const { return weights + kv; }
};

/// Returns the time in ms that reading them takes. Throws UserError for a speed that is not
/// positive.
double floor_ms(const StepBytes& bytes, double bytes_per_second);

/// Returns the floor over the time of the step: 1 means that the step takes as long as reading its
/// bytes. More than 1 is possible where they stay in the CPU's caches. Throws UserError for a time
/// or a speed that is not positive.
double floor_share(const StepBytes& bytes, double bytes_per_second, double step_ms);

/// Read bandwidth beside blocks of measurements. Memory changes its speed within minutes, so that
/// it is read at both ends of every block; the faster end counts, since a slow probe would make
/// steps look good.
class BlockBandwidth {
 public:
  /// `measure` reads the memory once, as `ReadProbe::measure` does. It is called: the first block
  /// begins.
  explicit BlockBandwidth(std::function<kernels::ReadSpeed()> measure);

  /// Reads it again and returns the bandwidth of the block that ends here; the next one begins.
  kernels::ReadSpeed end_block();

 private:
  std::function<kernels::ReadSpeed()> measure_;
  kernels::ReadSpeed begin_;
};

}  // namespace kvlab

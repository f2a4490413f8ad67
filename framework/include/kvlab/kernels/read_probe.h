// How fast this machine reads memory: the floor under a decode step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kvlab/core/thread_pool.h"

namespace kvlab::kernels {

/// The fastest loop of one measurement.
struct ReadSpeed {
  double bytes_per_second = 0;
  std::string loop;  ///< which loop was fastest, such as "4 streams"
};

/// Holds memory of its own, in huge pages where the system gives them, and reads it with several
/// loops. A slow probe would make kernels look good: the fastest loop counts.
class ReadProbe {
 public:
  /// Throws CapacityError. 1 GiB is far above any last-level cache.
  explicit ReadProbe(int64_t bytes = int64_t{1} << 30);
  ~ReadProbe();
  ReadProbe(const ReadProbe&) = delete;
  ReadProbe& operator=(const ReadProbe&) = delete;

  /// Reads all of the memory once per loop and `rounds`.
  ReadSpeed measure(ThreadPool& threads, int rounds = 1);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlab::kernels

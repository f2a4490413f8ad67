// The read bandwidth beside the blocks of a run: the floor under the steps that were timed there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/core/thread_pool.h"
#include "kvlab/runtime/memory_floor.h"
#include "workload.h"

namespace kvlab::experiments {

/// Owns the memory that is read and says how fast that went, case by case.
class RunBandwidth {
 public:
  /// `weight_bytes` are what a decode step of the control reads. Where they may stay in the CPU's
  /// caches memory is no floor, and where the machine is short of memory the probe would take what
  /// the arms need: then nothing is measured, and `why_none` says which.
  RunBandwidth(int threads, int64_t weight_bytes);

  /// Empty where the bandwidth is measured.
  const std::string& why_none() const { return why_none_; }

  /// Reads the memory once: the first block of the case begins.
  void begin_case(const Case& one);

  /// Returns the bytes per second of the block that ends here; 0 where nothing is measured.
  double end_block();

  /// One line of JSON for each block of each case.
  const std::string& lines() const { return lines_; }

 private:
  ThreadPool threads_;
  std::string why_none_;
  std::unique_ptr<kernels::ReadProbe> probe_;
  std::optional<BlockBandwidth> blocks_;
  const Case* case_ = nullptr;
  int block_ = 0;
  std::string lines_;
};

}  // namespace kvlab::experiments

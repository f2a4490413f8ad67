// Counts heap allocations and page faults of the whole process: this program replaces the C library's
// allocation functions, so that libraries are counted as well.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvlab {

/// Allocations of more bytes than this are large.
inline constexpr size_t kLargeAllocation = 4096;

struct AllocationCounts {
  int64_t all = 0;
  int64_t large = 0;
  int64_t page_faults = 0;  ///< minor ones (`ru_minflt`), of all threads
};

/// One at a time in a process.
class AllocationCounter {
 public:
  void start();
  AllocationCounts stop();

 private:
  int64_t faults_before_ = 0;
};

}  // namespace kvlab

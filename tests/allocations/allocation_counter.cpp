#include "tests/allocations/allocation_counter.h"

#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

// The C library's own functions under their second names: this program's definitions come first for
// every library it loads, and pass on to them.
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
}

namespace kvlab {

namespace {

std::atomic<bool> counting{false};
std::atomic<int64_t> large{0}, all{0};

void* counted(void* memory, size_t size) {
  if (counting.load(std::memory_order_relaxed)) {
    all.fetch_add(1, std::memory_order_relaxed);
    if (size > kLargeAllocation) large.fetch_add(1, std::memory_order_relaxed);
  }
  return memory;
}

int64_t minor_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

}  // namespace

void AllocationCounter::start() {
  large = 0;
  all = 0;
  faults_before_ = minor_faults();
  counting = true;
}

AllocationCounts AllocationCounter::stop() {
  counting = false;
  return {all.load(), large.load(), minor_faults() - faults_before_};
}

}  // namespace kvlab

extern "C" {

void* malloc(size_t size) { return kvlab::counted(__libc_malloc(size), size); }

void* calloc(size_t count, size_t size) {
  return kvlab::counted(__libc_calloc(count, size), count * size);
}

void* realloc(void* memory, size_t size) {
  return kvlab::counted(__libc_realloc(memory, size), size);
}

void* memalign(size_t alignment, size_t size) {
  return kvlab::counted(__libc_memalign(alignment, size), size);
}

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** memory, size_t alignment, size_t size) {
  void* const got = memalign(alignment, size);
  if (got == nullptr) return ENOMEM;
  *memory = got;
  return 0;
}

}  // extern "C"

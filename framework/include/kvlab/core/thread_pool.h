// Threads for the kernels: started once, waiting without spinning for long.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace kvlab {

/// Runs numbered items on a fixed number of threads, the caller's among them.
///
/// Which thread takes an item is not fixed; what an item computes must not depend on it. Then results
/// do not depend on the number of threads either. A worker that the system does not schedule takes
/// no items, and the call does not wait for it: with a neighbour on the cores the others go on.
/// Idle workers spin for some microseconds and then sleep.
///
/// One call at a time; calls do not nest. Items must not throw. A call allocates nothing.
class ThreadPool {
 public:
  /// Requires: threads >= 1. One thread means: the caller alone, no worker is started. Throws
  /// CapacityError where the system gives no thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  /// Calls `item(index, thread)` for every index in [0, items), each exactly once; thread is in
  /// [0, threads()) and 0 is the caller's. Returns when all are done; what they wrote is visible.
  template <typename Item>
  void for_each(int64_t items, Item&& item) {
    using Callable = std::remove_reference_t<Item>;
    run(items, const_cast<void*>(static_cast<const void*>(&item)),
        [](void* callable, int64_t index, int thread) {
          (*static_cast<Callable*>(callable))(index, thread);
        });
  }

 private:
  using Call = void (*)(void* callable, int64_t index, int thread);
  void run(int64_t items, void* callable, Call call);

  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvlab

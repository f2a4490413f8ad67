#include "kvlab/core/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// Rounds of the processor's pause (some 10 to 40 ns each) before a thread sleeps. A decode step asks
// for a new call every few microseconds; longer spinning would only take the core from a neighbour.
constexpr int kSpins = 2000;

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// One cache line each: written by different threads.
struct alignas(64) Counter {
  std::atomic<int64_t> value{0};
};

}  // namespace

// `open_` counts openings and closings: odd while a call is open. A worker announces itself in `inside_`
// before it looks whether the call is still open; the caller closes the call before it looks who is
// inside. So either the caller waits for the worker, or the worker touches nothing of the call.
class ThreadPool::Impl {
 public:
  explicit Impl(int threads) {
    workers_.reserve(static_cast<size_t>(threads - 1));
    try {
      for (int i = 1; i < threads; ++i) {
        workers_.emplace_back([this, i] { work(i); });
      }
    } catch (const std::system_error& error) {
      stop();
      throw CapacityError(detail::concat("[core.threads] the system starts no more than ",
                                         workers_.size() + 1, " of ", threads,
                                         " threads: ", error.what(), ". Ask for fewer"));
    } catch (...) {
      stop();
      throw;
    }
  }

  ~Impl() { stop(); }

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  void run(int64_t items, void* callable, Call call) {
    if (items <= 0) return;
    if (workers_.empty() || items == 1) {
      for (int64_t index = 0; index < items; ++index) call(callable, index, 0);
      return;
    }
    items_ = items;
    callable_ = callable;
    call_ = call;
    next_.value.store(0, std::memory_order_relaxed);
    // Publishes the call: `open_` counts calls, odd while one is open.
    open_.value.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    take_items(0);
    open_.value.fetch_add(1, std::memory_order_seq_cst);
    wait_for_those_inside();
  }

 private:
  void take_items(int thread) {
    while (true) {
      const int64_t index = next_.value.fetch_add(1, std::memory_order_relaxed);
      if (index >= items_) return;
      call_(callable_, index, thread);
    }
  }

  void wait_for_those_inside() {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (inside_.value.load(std::memory_order_seq_cst) == 0) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_.store(true, std::memory_order_seq_cst);
    done_.wait(lock, [this] { return inside_.value.load(std::memory_order_seq_cst) == 0; });
    caller_sleeps_.store(false, std::memory_order_relaxed);
  }

  static bool is_open(int64_t count) { return count % 2 != 0; }

  void work(int thread) {
    int64_t seen = 0;
    while (true) {
      wait_for_a_call(seen);
      if (stopping_.load(std::memory_order_acquire)) return;
      // Announce first, then look again: either the caller sees this worker inside and waits, or
      // the worker sees the call closed and leaves.
      inside_.value.fetch_add(1, std::memory_order_seq_cst);
      const int64_t count = open_.value.load(std::memory_order_seq_cst);
      if (is_open(count)) take_items(thread);
      seen = count;
      leave();
    }
  }

  void leave() {
    if (inside_.value.fetch_sub(1, std::memory_order_seq_cst) != 1) return;
    if (!caller_sleeps_.load(std::memory_order_seq_cst)) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    done_.notify_one();
  }

  bool has_news(int64_t seen) const {
    const int64_t count = open_.value.load(std::memory_order_seq_cst);
    return (is_open(count) && count != seen) || stopping_.load(std::memory_order_acquire);
  }

  void wait_for_a_call(int64_t seen) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (has_news(seen)) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [this, seen] { return has_news(seen); });
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

  void stop() {
    stopping_.store(true, std::memory_order_release);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
    for (std::thread& worker : workers_) worker.join();
  }

  Counter next_, open_, inside_;
  int64_t items_ = 0;
  void* callable_ = nullptr;
  Call call_ = nullptr;
  std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
};

ThreadPool::ThreadPool(int threads) {
  KVLAB_CHECK_GE(threads, 1, "[core.threads] number of threads");
  impl_ = std::make_unique<Impl>(threads);
}

ThreadPool::~ThreadPool() = default;

int ThreadPool::threads() const { return impl_->threads(); }

void ThreadPool::run(int64_t items, void* callable, Call call) {
  impl_->run(items, callable, call);
}

}  // namespace kvlab

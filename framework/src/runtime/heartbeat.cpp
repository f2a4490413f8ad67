#include "kvlab/runtime/heartbeat.h"

#include <pthread.h>

#include <chrono>
#include <csignal>
#include <exception>

namespace kvlab {

Heartbeat::Heartbeat(std::function<void()> beat, double seconds) {
  // Signals are for the thread that works.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this, beat = std::move(beat), seconds] {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return stop_; })) {
      lock.unlock();
      try {
        beat();
      } catch (const std::exception&) {
        // The next one may succeed.
      }
      lock.lock();
    }
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Heartbeat::~Heartbeat() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

}  // namespace kvlab

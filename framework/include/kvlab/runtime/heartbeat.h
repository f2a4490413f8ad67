// A thread that says at regular times that its process still lives.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace kvlab {

/// Calls `beat` every `seconds` from a thread of its own until destroyed; the first time after
/// `seconds`. What `beat` throws is dropped: a sign of life that cannot be written ends nothing.
class Heartbeat {
 public:
  Heartbeat(std::function<void()> beat, double seconds);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace kvlab

// Progress on standard error: a bar that redraws itself on a terminal, nothing in a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kvlab {

/// A bar of one case. Without a terminal only the messages around it are printed.
class ProgressBar {
 public:
  /// `enabled` false never draws, e.g. where streamed text is in the way.
  ProgressBar(std::string label, int64_t total, bool enabled = true);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(int64_t done);

  /// Takes the bar away, so that a message can be printed.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
  std::string label_;
  int64_t total_;
  int64_t drawn_ = -1;  // filled cells last drawn, -1 for none
  bool enabled_;
};

}  // namespace kvlab

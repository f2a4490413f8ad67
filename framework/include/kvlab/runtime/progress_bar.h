// Progress on standard error: a bar that redraws itself on a terminal, nothing in a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kvlab {

/// Whether standard error can show a bar: it is a terminal, and TERM is set and not "dumb".
bool shows_bars();

/// A bar of one case, without colours and escape sequences. Without a terminal only the messages
/// around it are printed.
class ProgressBar {
 public:
  /// `enabled` false never draws, e.g. where streamed text is in the way.
  ProgressBar(std::string label, int64_t total, bool enabled = true);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Draws what changed, at most a few times per second while no further cell is filled.
  void update(int64_t done);

  /// Takes the bar away, so that a message can be printed.
  void clear();

  /// Draws it again below the message.
  void redraw();

 private:
  using Clock = std::chrono::steady_clock;
  int64_t filled() const;

  Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_at_;
  std::string label_;
  int64_t total_;
  int64_t done_ = 0;
  int64_t drawn_ = -1;  // filled cells last drawn, -1 for none
  size_t width_ = 0;    // characters on the line, to be drawn over
  bool enabled_;
};

}  // namespace kvlab

// How far a run is: a bar below its lines on a terminal, a line now and then in a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "kvlab/runtime/progress_bar.h"

namespace kvlab {

class RunLog;

struct RunProgressOptions {
  bool draws = false;           ///< the log's screen is standard error, which may be a terminal
  double quiet_seconds = 10;    ///< a log gets no two lines within this time
  int64_t quiet_percent = 5;    ///< nor while less than this was done
};

/// Counts units of work. The time left assumes that the rest goes at the pace so far.
class RunProgress {
 public:
  /// `log` must outlive it.
  RunProgress(std::string label, RunLog& log, RunProgressOptions options);
  ~RunProgress();
  RunProgress(const RunProgress&) = delete;
  RunProgress& operator=(const RunProgress&) = delete;

  /// `total` units are to come; the time starts now. Starts again where it was begun before.
  void begin(int64_t total);
  void advance(int64_t units);

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  RunLog& log_;
  RunProgressOptions options_;
  std::unique_ptr<ProgressBar> bar_;
  Clock::time_point start_, told_;
  int64_t total_ = 0, done_ = 0, told_percent_ = 0;
};

}  // namespace kvlab

#include "kvlab/runtime/run_progress.h"

#include <algorithm>
#include <utility>

#include "kvlab/runtime/run_log.h"
#include "kvlab/runtime/time_left.h"

namespace kvlab {

RunProgress::RunProgress(std::string label, RunLog& log, RunProgressOptions options)
    : label_(std::move(label)), log_(log), options_(options) {}

RunProgress::~RunProgress() { log_.keep_below(nullptr); }

void RunProgress::begin(int64_t total) {
  log_.keep_below(nullptr);
  bar_.reset();
  total_ = std::max<int64_t>(total, 0);
  done_ = told_percent_ = 0;
  start_ = told_ = Clock::now();
  if (total_ == 0 || !options_.draws || !shows_bars()) return;
  bar_ = std::make_unique<ProgressBar>(label_, total_);
  log_.keep_below(bar_.get());
  bar_->update(0);
}

void RunProgress::advance(int64_t units) {
  done_ = std::min(done_ + units, total_);
  if (total_ == 0) return;
  if (bar_) return bar_->update(done_);
  const auto now = Clock::now();
  const int64_t percent = 100 * done_ / total_;
  if (done_ == total_ || percent - told_percent_ < options_.quiet_percent ||
      std::chrono::duration<double>(now - told_).count() < options_.quiet_seconds) {
    return;
  }
  told_ = now;
  told_percent_ = percent;
  const double passed = std::chrono::duration<double>(now - start_).count();
  log_.stream() << percent << " % done" << time_left(passed, done_, total_) << "\n";
}

}  // namespace kvlab

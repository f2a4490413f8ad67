#include "progress.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <utility>

#include "kvlab/runtime/time_left.h"

namespace kvlab {

namespace {

constexpr int64_t kCells = 30;
constexpr size_t kTimeWidth = 16;  // of the longest time left, drawn over the one before

}  // namespace

ProgressBar::ProgressBar(std::string label, int64_t total, bool enabled)
    : label_(std::move(label)),
      total_(std::max<int64_t>(total, 1)),
      enabled_(enabled && isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() { clear(); }

void ProgressBar::update(int64_t done) {
  if (!enabled_) return;
  const int64_t filled = std::min(done, total_) * kCells / total_;
  if (filled == drawn_) return;
  drawn_ = filled;
  const double passed = std::chrono::duration<double>(Clock::now() - start_).count();
  const std::string left = done > 0 ? time_left(passed, done, total_) : "";
  std::cerr << "\r" << label_ << " [" << std::string(static_cast<size_t>(filled), '#')
            << std::string(static_cast<size_t>(kCells - filled), '.') << "] " << done << "/"
            << total_ << left << std::string(kTimeWidth - std::min(kTimeWidth, left.size()), ' ')
            << std::flush;
}

void ProgressBar::clear() {
  if (drawn_ < 0) return;
  drawn_ = -1;
  // Spaces instead of an escape sequence: plain for every terminal.
  std::cerr << "\r" << std::string(label_.size() + kCells + 32 + kTimeWidth, ' ') << "\r" << std::flush;
}

}  // namespace kvlab

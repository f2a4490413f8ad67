#include "progress.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <utility>

namespace kvlab {

namespace {

constexpr int64_t kCells = 30;

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
  std::cerr << "\r" << label_ << " [" << std::string(static_cast<size_t>(filled), '#')
            << std::string(static_cast<size_t>(kCells - filled), '.') << "] " << done << "/"
            << total_ << std::flush;
}

void ProgressBar::clear() {
  if (drawn_ < 0) return;
  drawn_ = -1;
  // Spaces instead of an escape sequence: plain for every terminal.
  std::cerr << "\r" << std::string(label_.size() + kCells + 32, ' ') << "\r" << std::flush;
}

}  // namespace kvlab

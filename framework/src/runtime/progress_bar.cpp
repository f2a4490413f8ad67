#include "kvlab/runtime/progress_bar.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string_view>
#include <utility>

#include "kvlab/runtime/time_left.h"

namespace kvlab {

namespace {

constexpr int64_t kCells = 30;
constexpr std::chrono::milliseconds kRedrawEvery{250};

}  // namespace

bool shows_bars() {
  const char* terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && terminal != nullptr && *terminal != '\0' &&
         std::string_view(terminal) != "dumb";
}

ProgressBar::ProgressBar(std::string label, int64_t total, bool enabled)
    : label_(std::move(label)),
      total_(std::max<int64_t>(total, 1)),
      enabled_(enabled && shows_bars()) {}

ProgressBar::~ProgressBar() { clear(); }

int64_t ProgressBar::filled() const { return std::min(done_, total_) * kCells / total_; }

void ProgressBar::update(int64_t done) {
  done_ = done;
  if (filled() == drawn_ && Clock::now() - drawn_at_ < kRedrawEvery) return;
  redraw();
}

void ProgressBar::redraw() {
  if (!enabled_) return;
  drawn_ = filled();
  drawn_at_ = Clock::now();
  const double passed = std::chrono::duration<double>(drawn_at_ - start_).count();
  std::ostringstream line;
  line << label_ << " [" << std::string(static_cast<size_t>(drawn_), '#')
       << std::string(static_cast<size_t>(kCells - drawn_), '.') << "] " << done_ << "/" << total_
       << time_left(passed, done_, total_);
  const std::string text = line.str();
  std::cerr << "\r" << text << std::string(width_ - std::min(width_, text.size()), ' ')
            << std::flush;
  width_ = text.size();
}

void ProgressBar::clear() {
  if (drawn_ < 0) return;
  drawn_ = -1;
  // Spaces instead of an escape sequence: plain for every terminal.
  std::cerr << "\r" << std::string(width_, ' ') << "\r" << std::flush;
  width_ = 0;
}

}  // namespace kvlab

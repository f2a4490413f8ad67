// The log of a run: complete lines go to the screen as they are and to a file with their time.
#pragma once

#include <memory>
#include <ostream>
#include <string>

namespace kvlab {

class ProgressBar;

/// An output stream whose lines are copied to `screen` and appended to `path` with a UTC time. The
/// file is flushed after every line, so that it tells how far a run came that was killed.
class RunLog {
 public:
  /// Throws UserError where the file cannot be opened.
  RunLog(std::ostream& screen, const std::string& path);
  ~RunLog();
  RunLog(const RunLog&) = delete;
  RunLog& operator=(const RunLog&) = delete;

  std::ostream& stream();

  /// Keeps a bar below the lines on the screen until the next call; nullptr for none.
  void keep_below(ProgressBar* bar);

 private:
  class LineBuffer;
  std::unique_ptr<LineBuffer> buffer_;
  std::ostream stream_;
};

}  // namespace kvlab

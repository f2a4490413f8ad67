#include "kvlab/runtime/run_log.h"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/ostream_sink.h>

#include <streambuf>

#include "kvlab/core/error.h"
#include "kvlab/runtime/progress_bar.h"
#include "kvlab/runtime/visible_text.h"

namespace kvlab {

// Collects characters and hands complete lines to the logger.
class RunLog::LineBuffer : public std::streambuf {
 public:
  LineBuffer(std::ostream& screen, const std::string& path) : logger_("run") {
    auto shown = std::make_shared<spdlog::sinks::ostream_sink_st>(screen, true);
    shown->set_pattern("%v");
    auto kept = std::make_shared<spdlog::sinks::basic_file_sink_st>(path);
    kept->set_formatter(std::make_unique<spdlog::pattern_formatter>(
        "%Y-%m-%dT%H:%M:%S.%eZ %v", spdlog::pattern_time_type::utc));
    logger_.sinks() = {shown, kept};
    logger_.flush_on(spdlog::level::info);
    // A log that cannot be written must not end the run: its results are written elsewhere.
    logger_.set_error_handler([](const std::string&) {});
  }

  void keep_below(ProgressBar* bar) { bar_ = bar; }

  ~LineBuffer() override {
    if (!line_.empty()) end_line();
  }

 private:
  int_type overflow(int_type character) override {
    if (traits_type::eq_int_type(character, traits_type::eof())) return 0;
    put(traits_type::to_char_type(character));
    return character;
  }

  std::streamsize xsputn(const char* text, std::streamsize count) override {
    for (std::streamsize i = 0; i < count; ++i) put(text[i]);
    return count;
  }

  void put(char character) {
    if (character == '\n') {
      end_line();
    } else {
      line_ += character;
    }
  }

  void end_line() {
    if (bar_ != nullptr) bar_->clear();
    logger_.info("{}", visible_text(line_));
    line_.clear();
    if (bar_ != nullptr) bar_->redraw();
  }

  spdlog::logger logger_;
  std::string line_;
  ProgressBar* bar_ = nullptr;
};

RunLog::RunLog(std::ostream& screen, const std::string& path) : stream_(nullptr) {
  try {
    buffer_ = std::make_unique<LineBuffer>(screen, path);
  } catch (const spdlog::spdlog_ex& error) {
    throw UserError("[runtime.run_log] '" + path + "' cannot be written: " + error.what());
  }
  stream_.rdbuf(buffer_.get());
}

RunLog::~RunLog() { stream_.rdbuf(nullptr); }

std::ostream& RunLog::stream() { return stream_; }

void RunLog::keep_below(ProgressBar* bar) { buffer_->keep_below(bar); }

}  // namespace kvlab

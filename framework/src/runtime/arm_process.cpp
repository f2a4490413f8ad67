#include "kvlab/runtime/arm_process.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <new>
#include <nlohmann/json.hpp>
#include <vector>

#include "kvlab/core/byte_size.h"

namespace kvlab {

namespace {

using Json = nlohmann::json;
using Clock = ChildProcess::Clock;

// Words that begin a reply; then the request's number and, but for `done`, one line of JSON.
constexpr const char* kLoaded = "loaded";
constexpr const char* kAnswer = "answer";
constexpr const char* kThrew = "threw";
constexpr const char* kNoMemory = "no_memory";
constexpr const char* kDone = "done";
// Words that begin a request.
constexpr const char* kAsk = "ask";
constexpr const char* kQuit = "quit";

constexpr double kLoadSeconds = 600;
constexpr double kEndSeconds = 2;  // from a closed line to the process's own end
constexpr size_t kLogLines = 5;

std::string in_seconds(double seconds) { return detail::concat(seconds, " s"); }

std::string took_longer_than(double seconds) {
  return "took longer than " + in_seconds(seconds) + " and was stopped";
}

std::string rounded_seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f s", seconds);
  return text;
}

// The reply to an exception of the arm, from inside a catch block.
std::string reply_to_exception(const std::string& number) {
  const auto reply = [&](const char* word, const std::string& what) {
    return std::string(word) + " " + number + " " +
           Json(what).dump(-1, ' ', true, Json::error_handler_t::replace);
  };
  try {
    throw;
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    const bool memory = what.find("can't allocate memory") != std::string::npos;
    return reply(memory ? kNoMemory : kThrew, what);
  } catch (const std::bad_alloc& error) {
    return reply(kNoMemory, error.what());
  } catch (const std::exception& error) {
    const std::string what = error.what();
    const bool memory = what.find("the system has no") != std::string::npos;
    return reply(memory ? kNoMemory : kThrew, what);
  } catch (...) {
    return reply(kThrew, "something that is no std::exception");
  }
}

}  // namespace

ArmProcess::ArmProcess(ArmProcessOptions options) : options_(std::move(options)) {
  std::vector<std::string> arguments = {
      options_.program, "arm-process", "--config", options_.config,
      "--arm",          options_.arm,  "--parent", std::to_string(::getpid())};
  if (options_.limits.memory_bytes) {
    arguments.insert(arguments.end(), {"--memory", std::to_string(*options_.limits.memory_bytes)});
  }
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(options_.log_file).parent_path(),
                                      ignored);
  child_ = std::make_unique<ChildProcess>(arguments, options_.log_file);
}

std::string ArmProcess::wait_until_loaded() {
  check_there();
  const Reply reply = await_reply(kLoadSeconds, took_longer_than(kLoadSeconds));
  if (reply.word != kLoaded) fail_with(reply);
  return reply.text;
}

std::string ArmProcess::ask(const std::string& request) {
  check_there();
  ++asked_;
  if (!child_->send(detail::concat(kAsk, " ", asked_, " ", request))) fail_closed();
  const auto& limit = options_.limits.seconds;
  std::optional<double> left;
  if (limit) left = std::max(0.0, *limit - used_seconds_);
  const auto start = Clock::now();
  Reply reply = await_reply(left, took_longer_than(limit.value_or(0)));
  used_seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
  if (reply.word != kAnswer) fail_with(reply);
  return std::move(reply.text);
}

ChildEnd ArmProcess::finish() {
  check_there();
  ++asked_;
  const std::string late = "did not end within " + in_seconds(options_.end_seconds) +
                           " of finishing its work and was stopped";
  const auto start = Clock::now();
  if (!child_->send(detail::concat(kQuit, " ", asked_))) fail_closed();
  const Reply reply = await_reply(options_.end_seconds, late);
  if (reply.word != kDone) fail_with(reply);
  const double waited = std::chrono::duration<double>(Clock::now() - start).count();
  const ChildEnd end = child_->finish(std::max(0.0, options_.end_seconds - waited));
  child_.reset();
  if (end.stopped) throw ArmProcessError(late + after_end(end));
  if (end.signal != 0) {
    throw ArmProcessError("was ended by " + describe_signal(end.signal) + " after its work" +
                          after_end(end));
  }
  if (end.exit_code != 0) {
    throw ArmProcessError(
        detail::concat("ended with exit code ", end.exit_code, " after its work", after_end(end)));
  }
  return end;
}

void ArmProcess::check_there() const {
  KVLAB_INVARIANT(child_ != nullptr, "[runtime.arm_process] the process of '", options_.arm,
                  "' has ended already");
}

ArmProcess::Reply ArmProcess::await_reply(std::optional<double> seconds, const std::string& late) {
  std::optional<Clock::time_point> deadline;
  if (seconds) {
    deadline = Clock::now() +
               std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*seconds));
  }
  std::string line;
  switch (child_->read_line(line, deadline)) {
    case ChildProcess::Reading::line: break;
    case ChildProcess::Reading::closed: fail_closed();
    case ChildProcess::Reading::timed_out: fail(late);
    case ChildProcess::Reading::too_long:
      fail("gave an answer of more than " +
           format_byte_size(static_cast<int64_t>(ChildProcess::kLongestLine)) + " and was stopped");
  }
  return parse_reply(line);
}

ArmProcess::Reply ArmProcess::parse_reply(const std::string& line) {
  const size_t word_end = line.find(' ');
  Reply reply{line.substr(0, word_end), ""};
  const std::string rest = word_end == std::string::npos ? "" : line.substr(word_end + 1);
  const size_t number_end = rest.find(' ');
  if (number_end != std::string::npos) reply.text = rest.substr(number_end + 1);
  const bool known = reply.word == kLoaded || reply.word == kAnswer || reply.word == kThrew ||
                     reply.word == kNoMemory || reply.word == kDone;
  const bool right = known && rest.substr(0, number_end) == std::to_string(asked_) &&
                     (reply.word == kDone || Json::accept(reply.text));
  if (!right) reject_answer("it follows no rule of the line");
  return reply;
}

void ArmProcess::reject_answer(const std::string& why) {
  fail("gave an answer that cannot be read (" + why + ") and was stopped");
}

void ArmProcess::fail_with(const Reply& reply) {
  if (reply.word != kThrew && reply.word != kNoMemory) {
    fail("gave the answer '" + reply.word + "' to another question and was stopped");
  }
  const Json what = Json::parse(reply.text);
  const std::string text = what.is_string() ? what.get<std::string>() : reply.text;
  if (reply.word == kThrew) fail("threw: " + text);
  const auto& limit = options_.limits.memory_bytes;
  fail("ran out of " + (limit ? "its " + format_byte_size(*limit) + " of memory" : "memory") +
       ": " + text);
}

void ArmProcess::fail(const std::string& what) {
  const ChildEnd end = child_->finish(0);
  child_.reset();
  throw ArmProcessError(what + after_end(end));
}

void ArmProcess::fail_closed() {
  const ChildEnd end = child_->finish(kEndSeconds);
  child_.reset();
  std::string what;
  if (end.stopped) {
    what = "closed its line to the run and was stopped";
  } else if (end.signal != 0) {
    what = "was ended by " + describe_signal(end.signal);
  } else if (end.exit_code == ParentConnection::kLostCode) {
    what = "lost its line to the run: its file descriptors were closed from inside";
  } else {
    what = detail::concat("ended with exit code ", end.exit_code, " without finishing");
  }
  throw ArmProcessError(what + after_end(end));
}

std::string ArmProcess::after_end(const ChildEnd& end) const {
  std::string text = "; it used " + rounded_seconds(end.cpu_seconds) +
                     " of processor time and at most " + format_byte_size(end.peak_resident_bytes) +
                     " of memory";
  const std::vector<std::string> lines = last_lines(options_.log_file, kLogLines);
  const std::string name = std::filesystem::path(options_.log_file).filename().string();
  if (lines.empty()) return text + ", and printed nothing";
  text += ". Last lines of " + name + ":";
  for (const std::string& line : lines) text += " | " + line;
  return text;
}

int serve_arm_process(const ArmServingOptions& options,
                      const std::function<std::unique_ptr<ArmService>()>& load) {
  ParentConnection run(options.parent);
  // What the arm prints must be in the log when it crashes.
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  std::cout << std::unitbuf;
  std::unique_ptr<ArmService> service;
  try {
    service = load();
    const std::string facts = service->describe();
    if (options.memory_bytes) limit_memory(*options.memory_bytes);
    run.send(std::string(kLoaded) + " 0 " + facts);
  } catch (...) {
    run.send(reply_to_exception("0"));
    return 1;
  }
  while (const std::optional<std::string> line = run.read_line()) {
    const size_t word_end = line->find(' ');
    const size_t number_end = std::min(line->find(' ', word_end + 1), line->size());
    const std::string number = line->substr(word_end + 1, number_end - word_end - 1);
    if (line->substr(0, word_end) == kQuit) {
      service.reset();
      run.send(std::string(kDone) + " " + number);
      return 0;
    }
    std::string reply;
    try {
      reply = std::string(kAnswer) + " " + number + " " +
              service->answer(line->substr(std::min(number_end + 1, line->size())));
    } catch (...) {
      reply = reply_to_exception(number);
    }
    run.send(reply);
  }
  return 1;  // the run has gone
}

}  // namespace kvlab

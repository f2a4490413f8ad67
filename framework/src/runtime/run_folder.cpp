#include "kvlab/runtime/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

// Bytes that are not UTF-8, say in a path, become U+FFFD.
std::string text_of(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

[[noreturn]] void fail(const char* operation, const std::string& path) {
  throw UserError(detail::concat("[runtime.run_folder.", operation, "] '", path,
                                 "': ", std::strerror(errno),
                                 ". Free disk space or choose another folder with --runs"));
}

// Owns a file descriptor and writes all of a text to it.
class OutputFile {
 public:
  OutputFile(const std::string& path, int flags) : path_(path) {
    descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    if (descriptor_ < 0) fail("open", path);
  }
  ~OutputFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write_all(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(descriptor_, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail("write", path_);
      text.remove_prefix(static_cast<size_t>(written));
    }
    if (::fsync(descriptor_) != 0) fail("fsync", path_);
  }

 private:
  std::string path_;
  int descriptor_;
};

std::string utc_now(const char* format) {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  std::strftime(text, sizeof text, format, &parts);
  return text;
}

const char* direction_name(BetterDirection direction) {
  switch (direction) {
    case BetterDirection::higher: return "higher";
    case BetterDirection::lower: return "lower";
    case BetterDirection::none: return "none";
  }
  return "?";
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

// A folder name that nobody has yet; a second run in the same second gets a suffix.
std::string create_folder(const std::string& where, const std::string& experiment,
                          const std::string& hash) {
  const std::string stem = where + "/" + experiment + "/" + utc_now("%Y%m%dT%H%M%SZ") + "-" + hash;
  std::error_code error;
  fs::create_directories(fs::path(stem).parent_path(), error);
  for (int attempt = 0; attempt < 1000; ++attempt) {
    std::string path = attempt == 0 ? stem : stem + "-" + std::to_string(attempt + 1);
    if (fs::create_directory(path, error)) return path;
    if (error) {
      errno = error.value();
      fail("create", path);
    }
  }
  throw UserError("[runtime.run_folder.create] '" + stem + "' and 999 like it exist; clean up runs");
}

}  // namespace

const char* run_status_name(RunStatus status) {
  switch (status) {
    case RunStatus::running: return "running";
    case RunStatus::ok: return "ok";
    case RunStatus::failed: return "failed";
    case RunStatus::interrupted: return "interrupted";
  }
  return "?";
}

void write_file_atomically(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".partial";
  try {
    OutputFile(temporary, O_TRUNC).write_all(text);
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail("rename", path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

RunFolder::RunFolder(const std::string& where, const std::string& experiment,
                     const ConfigNode& resolved, const std::string& input_text,
                     const std::vector<std::string>& overrides,
                     const std::vector<std::string>& argv, uint64_t seed)
    : experiment_(experiment), argv_(argv), seed_(seed), started_(utc_now("%Y-%m-%dT%H:%M:%SZ")) {
  path_ = create_folder(where, experiment, hash_text(to_yaml(resolved)).substr(0, 8));
  write_run_file(RunStatus::running, 0, "");
  std::error_code error;
  fs::create_directory(path_ + "/config", error);
  write_file_atomically(file("config/input.yaml"), input_text);
  Json listed = Json::array();
  for (const std::string& text : overrides) listed.push_back(text);
  write_file_atomically(file("config/overrides.yaml"), text_of(listed));
  const std::string target = file("config/resolved.yaml");
  write_file_atomically(target, to_yaml(resolved, target));
}

RunFolder::~RunFolder() {
  if (finished_) return;
  try {
    finish(RunStatus::failed, 1, "ended by an error");
  } catch (const std::exception&) {
    // The disk takes nothing: run.json goes on saying "running", which is not "ok".
  }
}

void RunFolder::write_run_file(RunStatus status, int exit_code, const std::string& message) {
  Json run;
  run["schema_version"] = 1;
  run["experiment"] = experiment_;
  run["status"] = run_status_name(status);
  run["start"] = started_;
  run["stop"] = status == RunStatus::running ? Json(nullptr) : Json(utc_now("%Y-%m-%dT%H:%M:%SZ"));
  run["argv"] = argv_;
  run["seed"] = seed_;
  run["exit_code"] = status == RunStatus::running ? Json(nullptr) : Json(exit_code);
  if (!message.empty()) run["message"] = message;
  write_file_atomically(file("run.json"), text_of(run));
}

void RunFolder::add_sample(const std::string& json_line) {
  OutputFile(file("samples.jsonl"), O_APPEND).write_all(json_line + "\n");
}

void RunFolder::write_environment(const std::vector<ReportFact>& facts) {
  Json environment = Json::object();
  for (const ReportFact& fact : facts) environment[fact.name] = fact.value;
  write_file_atomically(file("env.json"), text_of(environment));
}

void RunFolder::write_summary(const std::vector<Metric>& metrics,
                              const std::vector<ReportCheck>& checks,
                              const std::vector<ReportFailure>& failures) {
  Json summary;
  summary["metrics"] = Json::array();
  for (const Metric& metric : metrics) {
    Json group = Json::object();
    for (const auto& [key, value] : metric.group) group[key] = value;
    summary["metrics"].push_back({{"arm", metric.arm},
                                  {"metric", metric.metric},
                                  {"value", number_or_null(metric.value)},
                                  {"unit", metric.unit},
                                  {"n", metric.n},
                                  {"ci_low", number_or_null(metric.ci_low)},
                                  {"ci_high", number_or_null(metric.ci_high)},
                                  {"better", direction_name(metric.direction)},
                                  {"group", group},
                                  {"timed", metric.timed}});
    if (metric.direction != BetterDirection::none) {
      summary["metrics"].back()["higher_is_better"] = metric.direction == BetterDirection::higher;
    }
  }
  summary["checks"] = Json::array();
  for (const ReportCheck& check : checks) {
    summary["checks"].push_back({{"arm", check.arm},
                                 {"check", check.check},
                                 {"passed", check.passed},
                                 {"detail", check.detail}});
  }
  summary["failures"] = Json::array();
  for (const ReportFailure& failure : failures) {
    summary["failures"].push_back({{"what", failure.what}, {"reason", failure.reason}});
  }
  write_file_atomically(file("summary.json"), text_of(summary));
}

void RunFolder::finish(RunStatus status, int exit_code, const std::string& message) {
  finished_ = true;
  write_run_file(status, exit_code, message);
}

std::string hash_text(std::string_view text) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char byte : text) {
    hash ^= static_cast<unsigned char>(byte);
    hash *= 1099511628211ULL;
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

}  // namespace kvlab

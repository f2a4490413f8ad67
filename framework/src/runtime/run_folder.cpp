#include "kvlab/runtime/run_folder.h"

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>
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

constexpr double kHeartbeatSeconds = 5;

const char* direction_name(BetterDirection direction) {
  switch (direction) {
    case BetterDirection::higher: return "higher";
    case BetterDirection::lower: return "lower";
    case BetterDirection::none: return "none";
  }
  return "?";
}

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

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

RunFolder::RunFolder(const std::string& path, const std::string& experiment,
                     const ConfigNode& resolved, const RunRecord& record)
    : path_(path),
      experiment_(experiment),
      argv_(record.argv),
      seed_(record.seed),
      started_(utc_now()) {
  write_run_file(RunStatus::running, 0, "");
  create_folder_durably(file("config"));
  write("config/input.yaml", record.input_text);
  Json listed = Json::array();
  for (const std::string& text : record.overrides) listed.push_back(text);
  write("config/overrides.yaml", text_of(listed));
  write("config/resolved.yaml", to_yaml(resolved, file("config/resolved.yaml")));
  // Not flushed: a sign of life that a power cut loses was worth nothing.
  heartbeat_ = std::make_unique<Heartbeat>(
      [name = file("heartbeat")] { std::ofstream(name) << utc_now() << "\n"; },
      kHeartbeatSeconds);
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
  write("run.json", text_of(run));
}

void RunFolder::write(const std::string& name, std::string_view text) {
  try {
    write_file_atomically(file(name), text);
  } catch (const StorageError& error) {
    if (storage_failure_.empty()) storage_failure_ = error.what();
    throw;
  }
}

void RunFolder::add_sample(const std::string& json_line) {
  try {
    append_durably(file("samples.jsonl"), json_line + "\n");
  } catch (const StorageError& error) {
    if (storage_failure_.empty()) storage_failure_ = error.what();
    throw;
  }
}

void RunFolder::write_environment(const std::vector<ReportFact>& facts) {
  Json environment = Json::object();
  for (const ReportFact& fact : facts) environment[fact.name] = fact.value;
  write("env.json", text_of(environment));
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
    if (!metric.verdict.empty()) {
      summary["metrics"].back()["verdict"] = metric.verdict;
      summary["metrics"].back()["p"] = number_or_null(metric.p);
    }
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
  write("summary.json", text_of(summary));
}

void RunFolder::finish(RunStatus status, int exit_code, const std::string& message) {
  finished_ = true;
  heartbeat_.reset();
  std::error_code ignored;
  fs::remove(file("heartbeat"), ignored);
  write_run_file(status, exit_code, message);
}

std::string create_stamped_folder(const std::string& where, const std::string& experiment,
                                  const std::string& hash) {
  const std::string stem = where + "/" + experiment + "/" + utc_now("%Y%m%dT%H%M%SZ") + "-" + hash;
  std::error_code error;
  const std::string parent = fs::path(stem).parent_path().string();
  const bool created = fs::create_directories(parent, error);
  if (error) {
    errno = error.value();
    fail_storage("create", parent);
  }
  if (created) {
    sync_folder(where);
    const std::string above = fs::path(where).parent_path().string();
    sync_folder(above.empty() ? "." : above);
  }
  for (int attempt = 0; attempt < 1000; ++attempt) {
    std::string path = attempt == 0 ? stem : stem + "-" + std::to_string(attempt + 1);
    // A sweep that was killed while it gave its folder the final name has left this one.
    if (fs::exists(path + ".partial", error)) continue;
    if (fs::create_directory(path, error)) {
      sync_folder(parent);
      return path;
    }
    if (error) {
      errno = error.value();
      fail_storage("create", path);
    }
  }
  throw UserError("[runtime.run_folder.create] '" + stem +
                  "' and 999 like it exist; clean up runs");
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

#include "kvlab/sweep/sweep_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kAttempt = ".partial";

// Bytes that are not UTF-8 become U+FFFD.
std::string line_of(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

Json json_of(const SweepCase& planned) {
  Json line;
  line["index"] = planned.index;
  line["name"] = planned.name;
  line["status"] = planned.skipped() ? "skipped" : "planned";
  line["overrides"] = planned.overrides;
  line["settings"] = Json::object();
  for (const SweepSetting& setting : planned.settings) {
    line["settings"][setting.key] = setting.value;
  }
  if (planned.skipped()) {
    line["reason"] = planned.reason;
    return line;
  }
  line["hash"] = planned.hash;
  line["frozen"] = planned.frozen;
  line["trial"] = planned.trial;
  return line;
}

SweepCase case_of(const Json& line) {
  SweepCase planned;
  planned.index = line.at("index");
  planned.name = line.at("name");
  planned.overrides = line.at("overrides").get<std::vector<std::string>>();
  for (const auto& [key, value] : line.at("settings").items()) {
    planned.settings.push_back({key, value.get<std::string>()});
  }
  planned.hash = line.value("hash", "");
  planned.frozen = line.value("frozen", "");
  planned.trial = line.value("trial", "");
  planned.reason = line.value("reason", "");
  return planned;
}

// Somebody may have removed it with all that was in it.
void need_folder(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) create_folder_durably(path);
}

// The file's text, flushed later with the whole folder.
void write_plainly(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) fail_storage("write", path);
}

// The folder's name below `runs`: the kind, which must be one. A kind of a plugin that the config
// itself names becomes known only with its cases; until then it is any plain name.
std::string kind_folder(const ConfigNode& root, const RegistryFactory& registry) {
  const ConfigNode* kind = root.find("experiment");
  if (kind == nullptr || !kind->is_scalar()) return "sweep";
  const bool is_plain = std::all_of(kind->text().begin(), kind->text().end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
  });
  if (root.find("plugins") == nullptr || !is_plain) {
    registry().experiment(kind->text(), kind->where());
  }
  return kind->text();
}

}  // namespace

const char* case_status_name(CaseStatus status) {
  switch (status) {
    case CaseStatus::missing: return "missing";
    case CaseStatus::ok: return "ok";
    case CaseStatus::failed: return "failed";
    case CaseStatus::skipped: return "skipped";
  }
  return "?";
}

std::unique_ptr<SweepFolder> SweepFolder::create(const std::string& runs, const std::string& config,
                                                 const std::vector<std::string>& overrides,
                                                 const std::vector<std::string>& axes,
                                                 const std::vector<std::string>& argv,
                                                 const RegistryFactory& registry) {
  const ConfigNode root = load_config_file(config, overrides);
  std::string asked = to_yaml(root);
  for (const std::string& axis : axes) asked += axis + "\n";
  const std::string final_path = create_stamped_folder(runs, kind_folder(root, registry),
                                                       hash_text(asked).substr(0, 8));
  // The empty folder keeps the name while the sweep is planned beside it.
  const std::string path = final_path + kAttempt;
  create_folder_durably(path);
  try {
    for (const char* name : {"configs", "cases", "locks"}) {
      create_folder_durably(path + "/" + name);
    }
    const SweepPlan plan = plan_sweep(
        config, overrides, axes, registry, [&](const SweepCase& planned, const ConfigNode& node) {
          const std::string target = path + "/configs/" + planned.config_name();
          std::string text = to_yaml(node, target);
          write_plainly(target, text);
          return text;
        });
    std::string lines;
    for (const SweepCase& planned : plan.cases) lines += line_of(json_of(planned));
    write_plainly(path + "/plan.jsonl", lines);
    write_plainly(path + "/input.yaml", read_file(config));
    Json sweep;
    sweep["schema_version"] = 1;
    sweep["experiment"] = plan.experiment;
    sweep["config"] = plan.config;
    sweep["argv"] = argv;
    sweep["overrides"] = plan.overrides;
    sweep["axes"] = plan.axes;
    sweep["keys"] = plan.keys;
    sweep["code"] = plan.code;
    sweep["source"] = plan.source;
    sweep["data"] = plan.data;
    sweep["plan"] = hash_text(lines);
    write_plainly(path + "/planned.json", line_of(sweep, 2));
    SweepFolder(path).write_status(RunStatus::running, 0, "planned");
    sync_tree(path);
    if (::rmdir(final_path.c_str()) != 0) fail_storage("remove", final_path);
    rename_durably(path, final_path);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
    fs::remove(final_path, ignored);
    throw;
  }
  return std::make_unique<SweepFolder>(final_path);
}

SweepFolder::SweepFolder(const std::string& path) : path_(path) {
  std::error_code ignored;
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
  if (!fs::is_directory(path_, ignored)) {
    throw MissingError("[sweep.folder] there is no folder '" + path_ + "'");
  }
  KVLAB_CHECK(fs::exists(file("planned.json"), ignored), "[sweep.folder] '", path_,
              "' is not the folder of a planned sweep. Give one that kvlab sweep has printed");
  try {
    const Json sweep = Json::parse(read_file(file("planned.json")));
    plan_.experiment = sweep.at("experiment");
    plan_.config = sweep.at("config");
    plan_.overrides = sweep.at("overrides").get<std::vector<std::string>>();
    plan_.axes = sweep.at("axes").get<std::vector<std::string>>();
    plan_.keys = sweep.at("keys").get<std::vector<std::string>>();
    plan_.code = sweep.at("code");
    plan_.source = sweep.at("source");
    plan_.data = sweep.at("data").get<std::map<std::string, std::string>>();
    argv_ = sweep.at("argv").get<std::vector<std::string>>();
    const std::string lines = read_file(file("plan.jsonl"));
    KVLAB_CHECK(hash_text(lines) == sweep.at("plan"), "[sweep.folder] '", file("plan.jsonl"),
                "' was changed since the sweep was planned. Start a new sweep");
    std::istringstream stream(lines);
    for (std::string line; std::getline(stream, line);) {
      plan_.cases.push_back(case_of(Json::parse(line)));
    }
    // What it says is written anew, so a damaged one stops nobody.
    if (fs::exists(file("sweep.json"), ignored)) {
      const Json state = Json::parse(read_file(file("sweep.json")), nullptr, false);
      if (state.is_object()) started_ = state.value("start", "");
    }
  } catch (const Json::exception& error) {
    throw UserError(detail::concat("[sweep.folder] '", path_, "' is damaged: ", error.what(),
                                   ". Start a new sweep"));
  }
  if (started_.empty()) started_ = utc_now();
}

const SweepCase& SweepFolder::at(int64_t index) const {
  const auto count = static_cast<int64_t>(plan_.cases.size());
  KVLAB_CHECK(index >= 0 && index < count, "[sweep.folder] the sweep has cases 0 to ", count - 1,
              ", got ", index);
  return plan_.cases[static_cast<size_t>(index)];
}

std::string SweepFolder::config_of(const SweepCase& planned) const {
  return file("configs/" + planned.config_name());
}

std::string SweepFolder::folder_of(const SweepCase& planned) const {
  return file("cases/" + planned.folder_name());
}

CaseState SweepFolder::state(const SweepCase& planned) const {
  if (planned.skipped()) return {CaseStatus::skipped, planned.reason};
  const std::string folder = folder_of(planned);
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) return {};
  try {
    const Json run = Json::parse(read_file(folder + "/run.json"));
    if (run.at("status") == "ok") return {CaseStatus::ok, ""};
    return {CaseStatus::failed, run.value("message", "a check or an arm failed; see its report")};
  } catch (const std::exception& error) {
    throw UserError(detail::concat("[sweep.folder] '", folder, "' is damaged: ", error.what(),
                                   ". Remove it, and the case runs again"));
  }
}

SweepCounts SweepFolder::counts() const {
  SweepCounts counts;
  for (const SweepCase& planned : plan_.cases) {
    ++counts.cases;
    switch (state(planned).status) {
      case CaseStatus::missing: ++counts.missing; break;
      case CaseStatus::ok: ++counts.ok; break;
      case CaseStatus::failed: ++counts.failed; break;
      case CaseStatus::skipped: ++counts.skipped; break;
    }
  }
  return counts;
}

void SweepFolder::check_identity() const {
  const std::string code = code_version();
  KVLAB_CHECK(code == plan_.code, "[sweep.folder] '", path_, "' was planned with ", plan_.code,
              " (source ", plan_.source, "), this program is ", code,
              ". Cases of two programs must not mix: use the program that planned it (and by "
              "KVLAB_SIMD_TARGET its instruction set), or start a new sweep");
  check_data();
}

void SweepFolder::check_data() const {
  for (const auto& [path, print] : plan_.data) {
    const std::string now = fingerprint_path(path);
    KVLAB_CHECK(now == print, "[sweep.folder] '", path, "' had fingerprint ", print,
                " when the sweep was planned, now it has ", now,
                ". Cases on different data must not mix: bring the file back, or start a new sweep");
  }
}

FolderLock SweepFolder::lock_whole() const {
  const std::string what = "the sweep '" + path_ + "'";
  const std::string lock = file("locks/sweep.lock");
  need_folder(file("locks"));
  try {
    return FolderLock(lock, FolderLock::Mode::alone, what);
  } catch (const LockedError&) {
    // Workers share the lock; then the locks of their cases know who they are.
    if (lock_holder(lock)) throw;
    for (const SweepCase& planned : plan_.cases) {
      const auto holder = lock_holder(file("locks/" + planned.folder_name() + ".lock"));
      if (!holder) continue;
      throw LockedError(detail::concat("[sweep.lock] case ", planned.index, " of ", what,
                                       " is held by ", *holder, ". Wait for it to end, or end it"));
    }
    throw;
  }
}

std::pair<FolderLock, FolderLock> SweepFolder::lock_case(const SweepCase& planned) const {
  need_folder(file("locks"));
  FolderLock whole(file("locks/sweep.lock"), FolderLock::Mode::shared,
                   "the sweep '" + path_ + "'");
  FolderLock own(file("locks/" + planned.folder_name() + ".lock"), FolderLock::Mode::alone,
                 detail::concat("case ", planned.index, " of the sweep '", path_, "'"));
  return {std::move(whole), std::move(own)};
}

std::string SweepFolder::begin_attempt(const SweepCase& planned) const {
  need_folder(file("cases"));
  drop_attempt(planned);
  const std::string folder = folder_of(planned) + kAttempt;
  create_folder_durably(folder);
  return folder;
}

void SweepFolder::complete_attempt(const SweepCase& planned) const {
  const std::string folder = folder_of(planned);
  sync_tree(folder + kAttempt);
  rename_durably(folder + kAttempt, folder);
}

void SweepFolder::drop_attempt(const SweepCase& planned) const {
  const std::string folder = folder_of(planned) + kAttempt;
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) {
    errno = error.value();
    fail_storage("remove", folder);
  }
}

void SweepFolder::set_aside(const SweepCase& planned) const {
  const std::string folder = folder_of(planned);
  std::error_code ignored;
  int number = 1;
  while (fs::exists(detail::concat(folder, ".failed-", number), ignored)) ++number;
  rename_durably(folder, detail::concat(folder, ".failed-", number));
}

void SweepFolder::set_failed_aside() const {
  for (const SweepCase& planned : plan_.cases) {
    if (state(planned).status == CaseStatus::failed) set_aside(planned);
  }
}

std::string SweepFolder::lost_process() const {
  try {
    const Json sweep = Json::parse(read_file(file("sweep.json")));
    // With a message it was planned, or given to Slurm, and nobody was at work.
    if (sweep.at("status") != run_status_name(RunStatus::running)) return "";
    if (!sweep.value("message", "").empty()) return "";
    return detail::concat("Process ", sweep.at("pid").get<int64_t>(), " on ",
                          sweep.at("host").get<std::string>(), " was killed; it last lived at ",
                          sweep.at("heartbeat").get<std::string>(),
                          ". What it had not completed runs again");
  } catch (const std::exception&) {
    return "";  // a note; sweep.json is written anew in a moment
  }
}

void SweepFolder::write_status(RunStatus status, int exit_code, const std::string& message) {
  const SweepCounts now = counts();
  const std::lock_guard lock(mutex_);
  status_ = status;
  exit_code_ = exit_code;
  message_ = message;
  counts_ = now;
  write_sweep_file();
}

void SweepFolder::write_progress(CaseStatus done) {
  const std::lock_guard lock(mutex_);
  --counts_.missing;
  ++(done == CaseStatus::ok ? counts_.ok : counts_.failed);
  write_sweep_file();
}

void SweepFolder::write_heartbeat() {
  const std::lock_guard lock(mutex_);
  write_sweep_file();
}

void SweepFolder::write_sweep_file() {
  const bool running = status_ == RunStatus::running;
  Json sweep;
  sweep["schema_version"] = 1;
  sweep["experiment"] = plan_.experiment;
  sweep["status"] = run_status_name(status_);
  sweep["start"] = started_;
  sweep["stop"] = running ? Json(nullptr) : Json(utc_now());
  sweep["heartbeat"] = utc_now();
  sweep["pid"] = ::getpid();
  sweep["host"] = host_name();
  sweep["argv"] = argv_;
  sweep["exit_code"] = running ? Json(nullptr) : Json(exit_code_);
  if (!message_.empty()) sweep["message"] = message_;
  sweep["counts"] = {{"cases", counts_.cases},
                     {"ok", counts_.ok},
                     {"failed", counts_.failed},
                     {"skipped", counts_.skipped},
                     {"missing", counts_.missing}};
  sweep["code"] = plan_.code;
  sweep["source"] = plan_.source;
  sweep["data"] = plan_.data;
  write_file_atomically(file("sweep.json"), line_of(sweep, 2));
}

}  // namespace kvlab

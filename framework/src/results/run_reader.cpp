#include "kvlab/results/run_reader.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kSchemaVersion = 1;

std::string read_text(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) {
    throw MissingError("[results.read] '" + path.string() +
                       "' does not exist; the run wrote less than a whole run has");
  }
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  KVLAB_CHECK(file && !file.bad(), "[results.read] '", path.string(), "' cannot be read");
  return utf8_text(text.str());
}

Json parse_object(const std::string& text, const std::string& where) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    throw UserError(detail::concat("[results.read] ", where, ": not JSON, so damaged or only half ",
                                   "written: ", error.what()));
  }
  KVLAB_CHECK(json.is_object(), "[results.read] ", where, ": expected a JSON object, got a ",
              json.type_name());
  return json;
}

// Reads the values of one object; messages name the file and the key.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    KVLAB_CHECK(json.is_object(), "[results.read] ", where_, ": expected an object, got a ",
                json.type_name());
  }

  const Json& at(const char* key) const {
    const auto found = json_.find(key);
    KVLAB_CHECK(found != json_.end(), "[results.read] ", where_, ": the key '", key,
                "' is missing");
    return *found;
  }

  std::string text(const char* key) const {
    const Json& value = at(key);
    KVLAB_CHECK(value.is_string(), "[results.read] ", where_, ": '", key,
                "' must be a text, got a ", value.type_name());
    return value.get<std::string>();
  }

  std::string text_or_empty(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? "" : text(key);
  }

  // JSON has no NaN: null stands for it.
  double number(const char* key) const {
    const Json& value = at(key);
    if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
    KVLAB_CHECK(value.is_number(), "[results.read] ", where_, ": '", key,
                "' must be a number or null, got a ", value.type_name());
    return value.get<double>();
  }

  int64_t integer(const char* key) const {
    const Json& value = at(key);
    KVLAB_CHECK(value.is_number_integer(), "[results.read] ", where_, ": '", key,
                "' must be a whole number, got a ", value.type_name());
    return value.get<int64_t>();
  }

  std::optional<int64_t> integer_if_any(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end() || !found->is_number_integer()) return {};
    return found->get<int64_t>();
  }

  bool boolean(const char* key) const {
    const Json& value = at(key);
    KVLAB_CHECK(value.is_boolean(), "[results.read] ", where_, ": '", key,
                "' must be true or false, got a ", value.type_name());
    return value.get<bool>();
  }

  std::vector<std::string> texts(const char* key) const {
    const Json& value = at(key);
    KVLAB_CHECK(value.is_array(), "[results.read] ", where_, ": '", key, "' must be a list, got a ",
                value.type_name());
    std::vector<std::string> all;
    for (const Json& item : value) {
      KVLAB_CHECK(item.is_string(), "[results.read] ", where_, ": '", key,
                  "' must hold texts, got a ", item.type_name());
      all.push_back(item.get<std::string>());
    }
    return all;
  }

  std::vector<std::string> texts_if_any(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return {};
    if (!found->is_string()) return texts(key);
    if (found->get<std::string>().empty()) return {};
    return {found->get<std::string>()};
  }

  void each(const char* key, const std::function<void(const Fields&)>& read) const {
    const Json& value = at(key);
    KVLAB_CHECK(value.is_array(), "[results.read] ", where_, ": '", key, "' must be a list, got a ",
                value.type_name());
    for (size_t i = 0; i < value.size(); ++i) {
      read(Fields(value[i], detail::concat(where_, ", ", key, " ", i)));
    }
  }

  bool has(const char* key) const { return json_.contains(key); }
  const std::string& where() const { return where_; }

 private:
  const Json& json_;
  std::string where_;
};

BetterDirection read_direction(const Fields& fields) {
  const std::string name = fields.text("better");
  if (name == "higher") return BetterDirection::higher;
  if (name == "lower") return BetterDirection::lower;
  KVLAB_CHECK(name == "none", "[results.read] ", fields.where(),
              ": 'better' must be higher, lower or none, got '", name, "'");
  return BetterDirection::none;
}

Metric read_metric(const Fields& fields) {
  Metric metric;
  metric.arm = fields.text("arm");
  metric.metric = fields.text("metric");
  metric.value = fields.number("value");
  metric.unit = fields.text("unit");
  metric.n = fields.integer("n");
  metric.ci_low = fields.number("ci_low");
  metric.ci_high = fields.number("ci_high");
  metric.direction = read_direction(fields);
  const Json& group = fields.at("group");
  const Fields values(group, fields.where() + ", group");
  for (const auto& [key, value] : group.items()) {
    metric.group.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  }
  metric.timed = fields.has("timed") && fields.boolean("timed");
  if (fields.has("verdict")) metric.verdict = fields.text("verdict");
  if (fields.has("p")) metric.p = fields.number("p");
  return metric;
}

void read_summary(const fs::path& path, StoredRun& run) {
  const Json json = parse_object(read_text(path), "'" + path.string() + "'");
  const Fields fields(json, "'" + path.string() + "'");
  fields.each("metrics", [&](const Fields& one) { run.metrics.push_back(read_metric(one)); });
  fields.each("checks", [&](const Fields& one) {
    run.checks.push_back(
        {one.text("arm"), one.text("check"), one.boolean("passed"), one.text("detail")});
  });
  fields.each("failures", [&](const Fields& one) {
    run.failures.push_back({one.text("what"), one.text("reason")});
  });
}

void read_environment(const fs::path& path, StoredRun& run) {
  const Json json = parse_object(read_text(path), "'" + path.string() + "'");
  for (const auto& [name, value] : json.items()) {
    run.environment.push_back({name, value.is_string() ? value.get<std::string>() : value.dump()});
  }
}

StoredSample read_sample(const std::string& text, int64_t line, const std::string& where) {
  const Json json = parse_object(text, where);
  const Fields fields(json, where);
  StoredSample sample;
  sample.line = line;
  sample.json = text;
  if (fields.has("arm") && json["arm"].is_string()) sample.arm = json["arm"].get<std::string>();
  sample.rep = fields.integer_if_any("rep");
  sample.order = fields.integer_if_any("order");
  sample.prompt_length = fields.integer_if_any("prompt_len");
  sample.batch = fields.integer_if_any("batch");
  sample.new_tokens = fields.integer_if_any("new_tokens");
  sample.ttft_ns = fields.integer_if_any("ttft_ns");
  const auto gaps = json.find("token_ns");
  if (gaps != json.end() && gaps->is_array()) {
    for (const Json& gap : *gaps) {
      KVLAB_CHECK(gap.is_number(), "[results.read] ", where, ": 'token_ns' must hold numbers");
      sample.token_ns.push_back(gap.get<int64_t>());
    }
  }
  return sample;
}

void read_samples(const fs::path& path, StoredRun& run) {
  const std::string text = read_text(path);
  int64_t line = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find('\n', at);
    ++line;
    const std::string where = detail::concat("'", path.string(), "', line ", line);
    if (end == std::string::npos) {
      // A run that was killed while it wrote leaves a torn line, which was never a sample.
      if (run.status != run_status_name(RunStatus::ok)) return;
      throw UserError("[results.read] " + where + ": the line does not end, so it is half written");
    }
    run.samples.push_back(read_sample(text.substr(at, end - at), line, where));
    at = end + 1;
  }
}

std::vector<std::string> read_overrides(const fs::path& path) {
  try {
    return Json::parse(read_text(path)).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& error) {
    throw UserError(detail::concat("[results.read] '", path.string(),
                                   "': expected a list of texts: ", error.what()));
  }
}

std::vector<PlannedCase> read_plan(const fs::path& path) {
  std::vector<PlannedCase> cases;
  std::istringstream lines(read_text(path));
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty()) continue;
    const std::string where = detail::concat("'", path.string(), "', line ", number);
    const Json json = parse_object(line, where);
    const Fields fields(json, where);
    // The plan may say more about itself than its cases.
    if (!fields.has("index")) continue;
    PlannedCase one;
    one.index = fields.integer("index");
    one.name = fields.text_or_empty("name");
    one.hash = fields.text_or_empty("hash");
    one.overrides = fields.texts_if_any("overrides");
    one.reasons = fields.texts_if_any("reasons");
    if (one.reasons.empty()) one.reasons = fields.texts_if_any("reason");
    const auto skipped = json.find("skipped");
    one.skipped = fields.text_or_empty("status") == "skipped" || !one.reasons.empty();
    if (skipped != json.end()) {
      one.skipped = skipped->is_boolean() ? skipped->get<bool>() : !skipped->empty();
      if (one.reasons.empty() && !skipped->is_boolean())
        one.reasons = fields.texts_if_any("skipped");
    }
    cases.push_back(std::move(one));
  }
  return cases;
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_run_folder(const fs::path& folder) { return is_file(folder / "run.json"); }

std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_directory(error) && !entry.is_symlink(error)) found.push_back(entry.path());
  }
  KVLAB_CHECK(!error, "[results.read] '", folder.string(), "': ", error.message());
  std::sort(found.begin(), found.end());
  return found;
}

// "0012-89abcdef" of a case's folder.
std::optional<int64_t> index_of(const std::string& name) {
  const size_t dash = name.find('-');
  if (dash == 0 || dash == std::string::npos || dash > 9) return {};
  int64_t index = 0;
  for (const char c : name.substr(0, dash)) {
    if (c < '0' || c > '9') return {};
    index = 10 * index + (c - '0');
  }
  return index;
}

std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "/" + name;
}

void add_sweep(const fs::path& folder, const std::string& prefix, StoredRuns& all) {
  std::map<int64_t, PlannedCase> planned;
  if (is_file(folder / "plan.jsonl")) {
    for (PlannedCase& one : read_plan(folder / "plan.jsonl")) {
      planned[one.index] = one;
      all.cases.push_back(std::move(one));
    }
  }
  std::error_code ignored;
  if (!fs::is_directory(folder / "cases", ignored)) return;
  for (const fs::path& path : folders_in(folder / "cases")) {
    const std::string name = path.filename().string();
    // Not a case's result: an attempt that has not ended (.partial), one that was set aside when the
    // case ran again (.failed-1), or a folder whose run never began.
    if (name.find('.') != std::string::npos || !is_run_folder(path)) continue;
    StoredRun run = read_run(path.string());
    run.name = joined(prefix, utf8_text(name));
    run.case_index = index_of(name);
    KVLAB_CHECK(run.case_index.has_value(), "[results.read] '", path.string(),
                "': a case's folder is named <index>-<hash>");
    const auto plan = planned.find(*run.case_index);
    if (plan != planned.end()) {
      run.hash = plan->second.hash;
      run.overrides = plan->second.overrides;
    }
    all.runs.push_back(std::move(run));
  }
}

void add_tree(const fs::path& folder, const std::string& prefix, StoredRuns& all) {
  if (is_run_folder(folder)) {
    all.runs.push_back(read_run(folder.string()));
    all.runs.back().name = prefix;
  } else if (is_sweep_folder(folder.string())) {
    add_sweep(folder, prefix, all);
  } else {
    for (const fs::path& inner : folders_in(folder)) {
      add_tree(inner, joined(prefix, utf8_text(inner.filename().string())), all);
    }
  }
}

std::string own_name(const std::string& folder) {
  fs::path path = fs::path(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  std::string name = path.filename().string();
  if (name == "." || name == ".." || name.empty()) {
    std::error_code ignored;
    name = fs::canonical(folder, ignored).filename().string();
  }
  return utf8_text(name);
}

// The same runs twice would count twice, and have one name.
void check_different(const std::vector<std::string>& folders) {
  std::map<fs::path, std::string> seen;
  for (const std::string& folder : folders) {
    std::error_code error;
    const fs::path path = fs::canonical(folder, error);
    if (error) continue;  // reading it says what is wrong
    const auto [earlier, is_new] = seen.try_emplace(path, folder);
    KVLAB_CHECK(is_new, "[results.read] '", folder, "' is the same folder as '", earlier->second,
                "', which was given before. Give each folder once");
  }
}

}  // namespace

std::string utf8_text(const std::string& text) {
  const Json json(text);
  return Json::parse(json.dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

StoredRun read_run(const std::string& folder) {
  const fs::path path(folder);
  if (!is_run_folder(path)) {
    throw MissingError("[results.read] '" + folder +
                       "' holds no run.json; give the folder of a run, as kvlab run prints it");
  }
  const std::string where = "'" + (path / "run.json").string() + "'";
  const Json json = parse_object(read_text(path / "run.json"), where);
  const Fields fields(json, where);
  const int64_t schema = fields.integer("schema_version");
  KVLAB_CHECK(schema == kSchemaVersion, "[results.read] ", where, ": schema_version must be ",
              kSchemaVersion, ", got ", schema, ". Read it with the kvlab that wrote it");
  StoredRun run;
  run.folder = folder;
  run.name = own_name(folder);
  run.experiment = fields.text("experiment");
  run.status = fields.text("status");
  const std::set<std::string> known = {"running", "ok", "failed", "interrupted"};
  KVLAB_CHECK(known.count(run.status) > 0, "[results.read] ", where,
              ": status must be running, ok, failed or interrupted, got '", run.status, "'");
  run.start = fields.text("start");
  run.stop = fields.text_or_empty("stop");
  run.message = fields.text_or_empty("message");
  run.exit_code = fields.integer_if_any("exit_code");
  const Json& seed = fields.at("seed");
  KVLAB_CHECK(seed.is_number_integer(), "[results.read] ", where,
              ": 'seed' must be a whole number");
  run.seed = seed.get<uint64_t>();
  run.argv = fields.texts("argv");

  const bool whole = run.status == run_status_name(RunStatus::ok);
  const auto wanted = [&](const char* name) { return whole || is_file(path / name); };
  if (wanted("config/resolved.yaml")) run.config = read_text(path / "config/resolved.yaml");
  if (is_file(path / "config/overrides.yaml")) {
    run.overrides = read_overrides(path / "config/overrides.yaml");
  }
  if (wanted("env.json")) read_environment(path / "env.json", run);
  if (wanted("summary.json")) read_summary(path / "summary.json", run);
  // Not every experiment kind takes samples.
  if (is_file(path / "samples.jsonl")) read_samples(path / "samples.jsonl", run);
  return run;
}

void check_finished(const StoredRun& run) {
  if (run.status == run_status_name(RunStatus::ok)) return;
  const std::string why = run.message.empty() ? "" : " (" + run.message + ")";
  throw UserError("[results.read] '" + run.folder + "': expected a run with status ok, got " +
                  run.status + why + ". Run it again, or wait until it ends");
}

bool is_sweep_folder(const std::string& folder) {
  const fs::path path(folder);
  return is_file(path / "plan.jsonl") || is_file(path / "sweep.json");
}

StoredRuns read_runs(const std::string& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    throw MissingError("[results.read] '" + folder +
                       "' is not a folder; give the folder of a run or a sweep");
  }
  StoredRuns all;
  add_tree(folder, "", all);
  if (all.runs.empty() && all.cases.empty()) {
    throw MissingError("[results.read] '" + folder +
                       "' holds no run; give the folder of a run, of a sweep, or one above them");
  }
  for (StoredRun& run : all.runs) {
    if (run.name.empty()) run.name = own_name(folder);
  }
  std::stable_sort(all.runs.begin(), all.runs.end(), [](const StoredRun& a, const StoredRun& b) {
    return std::pair(a.case_index.value_or(-1), a.name) <
           std::pair(b.case_index.value_or(-1), b.name);
  });
  return all;
}

StoredRuns read_all_runs(const std::vector<std::string>& folders) {
  if (folders.size() == 1) return read_runs(folders.front());
  check_different(folders);
  std::map<std::string, int> uses;
  for (const std::string& folder : folders) ++uses[own_name(folder)];
  StoredRuns all;
  for (const std::string& folder : folders) {
    StoredRuns found = read_runs(folder);
    const std::string own = own_name(folder);
    const std::string prefix = uses[own] > 1 ? utf8_text(folder) : own;
    for (StoredRun& run : found.runs) {
      run.name = run.name == own ? prefix : joined(prefix, run.name);
      all.runs.push_back(std::move(run));
    }
    for (PlannedCase& one : found.cases) all.cases.push_back(std::move(one));
  }
  return all;
}

std::vector<std::pair<std::string, std::string>> override_values(
    const std::vector<std::string>& overrides) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const std::string& text : overrides) {
    const size_t equals = text.find('=');
    std::string key = text.substr(0, equals);
    const bool removes = !key.empty() && key.front() == '~';
    if (!key.empty() && (key.front() == '+' || removes)) key.erase(0, 1);
    const std::string value =
        removes || equals == std::string::npos ? "removed" : text.substr(equals + 1);
    // Later overrides win, as they do in a config.
    std::erase_if(values, [&](const auto& earlier) { return earlier.first == key; });
    values.emplace_back(key, value);
  }
  return values;
}

}  // namespace kvlab

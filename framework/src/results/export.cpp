#include "kvlab/results/export.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "kvlab/core/component.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/csv_text.h"
#include "result_names.h"

namespace kvlab {

namespace {

using Json = nlohmann::ordered_json;
using Fields = std::vector<std::string>;

Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
Json number_or_null(const std::optional<int64_t>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// The shortest text that reads back as the same number.
std::string number_text(double value) { return std::isfinite(value) ? Json(value).dump() : ""; }
std::string number_text(const std::optional<int64_t>& value) {
  return value ? std::to_string(*value) : "";
}

std::string list_text(const std::vector<std::string>& texts) {
  return csv_text_field(Json(texts).dump());
}

// What runs set differently, as columns: the sorted keys of all overrides.
class OverrideColumns {
 public:
  explicit OverrideColumns(const StoredRuns& all) {
    for (const StoredRun& run : all.runs) {
      for (const auto& [key, value] : override_values(run.overrides)) keys_.push_back(key);
    }
    std::sort(keys_.begin(), keys_.end());
    keys_.erase(std::unique(keys_.begin(), keys_.end()), keys_.end());
  }

  void add_names(Fields& fields) const {
    for (const std::string& key : keys_) fields.push_back("config." + key);
  }

  void add_values(const StoredRun& run, Fields& fields) const {
    const auto values = override_values(run.overrides);
    for (const std::string& key : keys_) {
      const auto found = std::find_if(values.begin(), values.end(),
                                      [&](const auto& value) { return value.first == key; });
      fields.push_back(found == values.end() ? "" : csv_value(found->second));
    }
  }

  // Numbers stay numbers, signs and all.
  static std::string csv_value(const std::string& text) {
    const Json json = Json::parse(text, nullptr, false);
    return json.is_number() ? text : csv_text_field(text);
  }

 private:
  std::vector<std::string> keys_;
};

std::vector<std::string> group_keys(const StoredRuns& all) {
  std::vector<std::string> keys;
  for (const StoredRun& run : all.runs) {
    for (const Metric& metric : run.metrics) {
      for (const auto& [key, value] : metric.group) {
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
      }
    }
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

std::string metrics_csv(const StoredRuns& all) {
  const OverrideColumns overrides(all);
  const std::vector<std::string> keys = group_keys(all);
  Fields fields = {"run", "case_index", "experiment", "status", "arm", "metric"};
  for (const std::string& key : keys) fields.push_back("group." + key);
  for (const char* name : {"value", "unit", "n", "ci_low", "ci_high", "p", "verdict", "better",
                           "timed"}) {
    fields.push_back(name);
  }
  overrides.add_names(fields);
  std::string csv = csv_line(fields);
  for (const StoredRun& run : all.runs) {
    for (const Metric& metric : run.metrics) {
      fields = {csv_text_field(run.name),       number_text(run.case_index),
                csv_text_field(run.experiment), run.status,
                csv_text_field(metric.arm),     csv_text_field(metric.metric)};
      for (const std::string& key : keys) {
        const auto found = std::find_if(metric.group.begin(), metric.group.end(),
                                        [&](const auto& entry) { return entry.first == key; });
        fields.push_back(found == metric.group.end() ? ""
                                                     : OverrideColumns::csv_value(found->second));
      }
      fields.push_back(number_text(metric.value));
      fields.push_back(csv_text_field(metric.unit));
      fields.push_back(std::to_string(metric.n));
      fields.push_back(number_text(metric.ci_low));
      fields.push_back(number_text(metric.ci_high));
      fields.push_back(number_text(metric.p));
      fields.push_back(csv_text_field(metric.verdict));
      fields.push_back(better_name(metric.direction));
      fields.push_back(metric.timed ? "true" : "false");
      overrides.add_values(run, fields);
      csv += csv_line(fields);
    }
  }
  return csv;
}

std::string runs_csv(const StoredRuns& all) {
  const OverrideColumns overrides(all);
  Fields fields = {"run",     "case_index", "hash", "experiment", "status", "exit_code",
                   "message", "start",      "stop", "seed",       "argv"};
  overrides.add_names(fields);
  std::string csv = csv_line(fields);
  for (const StoredRun& run : all.runs) {
    fields = {csv_text_field(run.name),
              number_text(run.case_index),
              csv_text_field(run.hash),
              csv_text_field(run.experiment),
              run.status,
              number_text(run.exit_code),
              csv_text_field(run.message),
              csv_text_field(run.start),
              csv_text_field(run.stop),
              std::to_string(run.seed),
              list_text(run.argv)};
    overrides.add_values(run, fields);
    csv += csv_line(fields);
  }
  return csv;
}

std::string cases_csv(const StoredRuns& all) {
  std::string csv = csv_line({"case_index", "name", "hash", "overrides", "skipped", "reasons"});
  for (const PlannedCase& one : all.cases) {
    csv += csv_line({std::to_string(one.index), csv_text_field(one.name), csv_text_field(one.hash),
                     list_text(one.overrides), one.skipped ? "true" : "false",
                     list_text(one.reasons)});
  }
  return csv;
}

std::string checks_csv(const StoredRuns& all) {
  std::string csv = csv_line({"run", "arm", "check", "passed", "detail"});
  for (const StoredRun& run : all.runs) {
    for (const ReportCheck& check : run.checks) {
      csv += csv_line({csv_text_field(run.name), csv_text_field(check.arm),
                       csv_text_field(check.check), check.passed ? "true" : "false",
                       csv_text_field(check.detail)});
    }
  }
  return csv;
}

std::string failures_csv(const StoredRuns& all) {
  std::string csv = csv_line({"run", "what", "reason"});
  for (const StoredRun& run : all.runs) {
    for (const ReportFailure& failure : run.failures) {
      csv += csv_line(
          {csv_text_field(run.name), csv_text_field(failure.what), csv_text_field(failure.reason)});
    }
  }
  return csv;
}

std::string environment_csv(const StoredRuns& all) {
  std::string csv = csv_line({"run", "name", "value"});
  for (const StoredRun& run : all.runs) {
    for (const ReportFact& fact : run.environment) {
      csv += csv_line(
          {csv_text_field(run.name), csv_text_field(fact.name), csv_text_field(fact.value)});
    }
  }
  return csv;
}

std::string samples_csv(const StoredRuns& all) {
  std::string csv = csv_line({"run", "line", "arm", "rep", "order", "prompt_length", "batch",
                              "new_tokens", "ttft_ns", "json"});
  for (const StoredRun& run : all.runs) {
    for (const StoredSample& sample : run.samples) {
      csv += csv_line({csv_text_field(run.name), std::to_string(sample.line),
                       csv_text_field(sample.arm), number_text(sample.rep),
                       number_text(sample.order), number_text(sample.prompt_length),
                       number_text(sample.batch), number_text(sample.new_tokens),
                       number_text(sample.ttft_ns), csv_text_field(sample.json)});
    }
  }
  return csv;
}

struct CsvTable {
  const char* name;
  std::string (*write)(const StoredRuns&);
};

constexpr CsvTable kTables[] = {
    {"metrics", metrics_csv}, {"runs", runs_csv},         {"cases", cases_csv},
    {"checks", checks_csv},   {"failures", failures_csv}, {"environment", environment_csv},
    {"samples", samples_csv},
};

Json to_json(const StoredRun& run) {
  Json json = {{"run", run.name},        {"case_index", number_or_null(run.case_index)},
               {"hash", run.hash},       {"experiment", run.experiment},
               {"status", run.status},   {"exit_code", number_or_null(run.exit_code)},
               {"message", run.message}, {"start", run.start},
               {"stop", run.stop},       {"seed", run.seed},
               {"argv", run.argv},       {"overrides", run.overrides},
               {"config", run.config}};
  json["environment"] = Json::object();
  for (const ReportFact& fact : run.environment) json["environment"][fact.name] = fact.value;
  json["metrics"] = Json::array();
  for (const Metric& metric : run.metrics) {
    json["metrics"].push_back({{"arm", metric.arm},
                               {"metric", metric.metric},
                               {"value", number_or_null(metric.value)},
                               {"unit", metric.unit},
                               {"n", metric.n},
                               {"ci_low", number_or_null(metric.ci_low)},
                               {"ci_high", number_or_null(metric.ci_high)},
                               {"p", number_or_null(metric.p)},
                               {"verdict", metric.verdict},
                               {"better", better_name(metric.direction)},
                               {"timed", metric.timed},
                               {"group", Json::parse(group_json(metric.group))}});
  }
  json["checks"] = Json::array();
  for (const ReportCheck& check : run.checks) {
    json["checks"].push_back({{"arm", check.arm},
                              {"check", check.check},
                              {"passed", check.passed},
                              {"detail", check.detail}});
  }
  json["failures"] = Json::array();
  for (const ReportFailure& failure : run.failures) {
    json["failures"].push_back({{"what", failure.what}, {"reason", failure.reason}});
  }
  json["samples"] = Json::array();
  for (const StoredSample& sample : run.samples) {
    json["samples"].push_back(Json::parse(sample.json));
  }
  return json;
}

}  // namespace

const std::vector<std::string>& csv_tables() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const CsvTable& table : kTables) all.push_back(table.name);
    return all;
  }();
  return names;
}

std::string runs_to_csv(const StoredRuns& runs, const std::string& table) {
  for (const CsvTable& one : kTables) {
    if (table == one.name) return one.write(runs);
  }
  throw UserError("[results.export] '" + table + "' is no table." +
                  suggestion(table, csv_tables()));
}

std::string runs_to_json(const StoredRuns& runs) {
  Json json = {{"schema", "kvlab-export/1"}};
  json["runs"] = Json::array();
  for (const StoredRun& run : runs.runs) json["runs"].push_back(to_json(run));
  json["cases"] = Json::array();
  for (const PlannedCase& one : runs.cases) {
    json["cases"].push_back({{"index", one.index},
                             {"name", one.name},
                             {"hash", one.hash},
                             {"overrides", one.overrides},
                             {"skipped", one.skipped},
                             {"reasons", one.reasons}});
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace kvlab

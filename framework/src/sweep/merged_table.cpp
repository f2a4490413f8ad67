#include "kvlab/sweep/merged_table.h"

#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "kvlab/runtime/csv_text.h"
#include "kvlab/runtime/report_document.h"

namespace kvlab {

namespace {

using Json = nlohmann::ordered_json;

// As summary.json has it; nothing for what is no number.
std::string number_text(const Json& value) { return value.is_null() ? "" : value.dump(); }

std::string group_text(const Json& group) {
  std::string text;
  for (const auto& [key, value] : group.items()) {
    text += (text.empty() ? "" : ";") + key + "=" +
            (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

bool is_number(const std::string& text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && stop == text.data() + text.size();
}

// A setting: mostly a number, which stays one.
std::string setting_text(const std::string& text) {
  return is_number(text) ? text : csv_text_field(text);
}

std::string text_of(const Json& metric, const char* key) {
  return csv_text_field(metric.at(key).get<std::string>());
}

}  // namespace

std::string merged_table(const SweepFolder& sweep) {
  const SweepPlan& plan = sweep.plan();
  std::vector<std::string> header = {"index", "name"};
  for (const std::string& key : plan.keys) header.push_back(csv_text_field(key));
  for (const char* column : {"arm", "metric", "group", "value", "unit", "n", "ci_low", "ci_high",
                             "p", "verdict", "timed", "status", "reason"}) {
    header.push_back(column);
  }
  std::string table = csv_line(header);
  for (const SweepCase& planned : plan.cases) {
    std::vector<std::string> start = {std::to_string(planned.index),
                                      csv_text_field(planned.name)};
    for (const std::string& key : plan.keys) {
      std::string value;
      for (const SweepSetting& setting : planned.settings) {
        if (setting.key == key) value = setting.value;
      }
      start.push_back(setting_text(value));
    }
    const CaseState state = sweep.state(planned);
    const std::vector<std::string> end = {case_status_name(state.status),
                                          csv_text_field(state.reason)};
    const auto add = [&](const std::vector<std::string>& middle) {
      std::vector<std::string> fields = start;
      fields.insert(fields.end(), middle.begin(), middle.end());
      fields.insert(fields.end(), end.begin(), end.end());
      table += csv_line(fields);
    };
    const std::string summary = sweep.folder_of(planned) + "/summary.json";
    std::error_code ignored;
    bool any = false;
    const bool done = state.status == CaseStatus::ok || state.status == CaseStatus::failed;
    if (done && std::filesystem::exists(summary, ignored)) {
      const Json found = Json::parse(read_file(summary));
      for (const Json& metric : found.at("metrics")) {
        any = true;
        add({text_of(metric, "arm"), text_of(metric, "metric"),
             csv_text_field(group_text(metric.at("group"))), number_text(metric.at("value")),
             text_of(metric, "unit"), number_text(metric.at("n")),
             number_text(metric.at("ci_low")), number_text(metric.at("ci_high")),
             metric.contains("p") ? number_text(metric.at("p")) : "",
             metric.contains("verdict") ? text_of(metric, "verdict") : "",
             metric.at("timed").get<bool>() ? "true" : "false"});
      }
    }
    if (!any) add(std::vector<std::string>(11));
  }
  return table;
}

}  // namespace kvlab

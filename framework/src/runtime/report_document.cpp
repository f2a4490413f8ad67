#include "kvlab/runtime/report_document.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "kvlab/core/error.h"
#include "kvlab/runtime/comparison.h"
#include "kvlab/runtime/csv_text.h"

namespace kvlab {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSchema = "kvlab-report/1";
constexpr const char* kDash = "–";

std::string fixed(double value, int decimals) {
  std::array<char, 400> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, value);
  return buffer.data();
}

constexpr std::array<std::pair<BetterDirection, const char*>, 3> kDirections{
    {{BetterDirection::none, "none"},
     {BetterDirection::higher, "higher"},
     {BetterDirection::lower, "lower"}}};
constexpr std::array<std::pair<CellEmphasis, const char*>, 4> kEmphases{
    {{CellEmphasis::normal, "normal"},
     {CellEmphasis::best, "best"},
     {CellEmphasis::warning, "warning"},
     {CellEmphasis::muted, "muted"}}};

template <typename Names, typename Value>
const char* name_of(const Names& names, Value value) {
  for (const auto& [candidate, name] : names)
    if (candidate == value) return name;
  detail::throw_internal("enumerator without a name", __FILE__, __LINE__);
}

template <typename Names>
auto value_of(const Names& names, const std::string& text, const char* what) {
  for (const auto& [value, name] : names)
    if (text == name) return value;
  detail::throw_user(detail::concat("[report.from_json] unknown ", what, " '", text, "'"));
}

void put_number(Json& json, const char* key, const std::optional<double>& value) {
  if (value && std::isfinite(*value)) json[key] = *value;
}

std::optional<double> get_number(const Json& json, const char* key) {
  if (!json.contains(key) || json.at(key).is_null()) return std::nullopt;
  return json.at(key).get<double>();
}

std::string get_text(const Json& json, const char* key) {
  return json.at(key).get<std::string>();
}

template <typename Items, typename Convert>
Json array_of(const Items& items, Convert convert) {
  Json result = Json::array();
  for (const auto& item : items) result.push_back(convert(item));
  return result;
}

// Reads a list of objects; a missing list is an error, so that a truncated file is noticed.
template <typename Item, typename Convert>
void read_list(const Json& json, const char* key, std::vector<Item>& items, Convert convert) {
  const Json& list = json.at(key);
  KVLAB_CHECK(list.is_array(), "[report.from_json] '", key, "' must be a list");
  for (const auto& item : list) items.push_back(convert(item));
}

Json cell_json(const ReportCell& cell) {
  Json json{{"text", cell.text}};
  put_number(json, "number", cell.number);
  put_number(json, "low", cell.low);
  put_number(json, "high", cell.high);
  if (cell.emphasis != CellEmphasis::normal) json["emphasis"] = name_of(kEmphases, cell.emphasis);
  return json;
}

ReportCell cell_from(const Json& json) {
  ReportCell cell;
  cell.text = get_text(json, "text");
  cell.number = get_number(json, "number");
  cell.low = get_number(json, "low");
  cell.high = get_number(json, "high");
  if (json.contains("emphasis"))
    cell.emphasis = value_of(kEmphases, get_text(json, "emphasis"), "emphasis");
  return cell;
}

Json table_json(const ReportTable& table) {
  const auto column_json = [](const ReportColumn& column) {
    return Json{{"key", column.key},
                {"title", column.title},
                {"unit", column.unit},
                {"better", name_of(kDirections, column.direction)}};
  };
  return Json{{"id", table.id},
              {"title", table.title},
              {"columns", array_of(table.columns, column_json)},
              {"rows", array_of(table.rows,
                                [](const auto& row) { return array_of(row, cell_json); })},
              {"note", table.note}};
}

ReportTable table_from(const Json& json) {
  ReportTable table;
  table.id = get_text(json, "id");
  table.title = get_text(json, "title");
  table.note = get_text(json, "note");
  read_list(json, "columns", table.columns, [](const Json& column) {
    return ReportColumn{get_text(column, "key"), get_text(column, "title"),
                        get_text(column, "unit"),
                        value_of(kDirections, get_text(column, "better"), "direction")};
  });
  read_list(json, "rows", table.rows, [](const Json& row) {
    std::vector<ReportCell> cells;
    for (const auto& cell : row) cells.push_back(cell_from(cell));
    return cells;
  });
  return table;
}

Json figure_json(const ReportFigure& figure) {
  return Json{{"id", figure.id},
              {"title", figure.title},
              {"caption", figure.caption},
              {"vega_lite", figure.vega_lite},
              {"csv", figure.csv}};
}

ReportFigure figure_from(const Json& json) {
  return {get_text(json, "id"), get_text(json, "title"), get_text(json, "caption"),
          get_text(json, "vega_lite"), get_text(json, "csv")};
}

Json section_json(const ReportSection& section) {
  return Json{{"title", section.title},
              {"paragraphs", section.paragraphs},
              {"tables", array_of(section.tables, table_json)},
              {"figures", array_of(section.figures, figure_json)}};
}

ReportSection section_from(const Json& json) {
  ReportSection section;
  section.title = get_text(json, "title");
  section.paragraphs = json.at("paragraphs").get<std::vector<std::string>>();
  read_list(json, "tables", section.tables, table_from);
  read_list(json, "figures", section.figures, figure_from);
  return section;
}

bool is_plain_name(const std::string& id) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-';
  };
  return !id.empty() && id.size() <= 100 && std::all_of(id.begin(), id.end(), plain);
}

void check_id(const std::string& id, std::set<std::string>& seen) {
  KVLAB_CHECK(is_plain_name(id),
              "[report.check] an id is 1 to 100 letters, digits, '_' or '-', got '", id, "'");
  KVLAB_CHECK(seen.insert(id).second, "[report.check] id '", id,
              "' occurs twice: tables and figures share the data folder");
}

void check_table(const ReportTable& table) {
  KVLAB_CHECK(!table.columns.empty(), "[report.check] table '", table.id, "' has no columns");
  std::set<std::string> keys;
  for (const auto& column : table.columns)
    KVLAB_CHECK(keys.insert(column.key).second, "[report.check] table '", table.id,
                "' has the column '", column.key, "' twice");
  for (const auto& row : table.rows)
    KVLAB_CHECK_EQ(row.size(), table.columns.size(),
                   "[report.check] a row has one cell per column in table '", table.id, "'");
}

std::string shortest(double value) {
  std::array<char, 64> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), end.ptr};
}

std::string csv_number(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? shortest(*value) : std::string();
}

}  // namespace

ReportCell text_cell(std::string text, CellEmphasis emphasis) {
  return {std::move(text), std::nullopt, emphasis};
}

ReportCell number_cell(double value, int decimals, CellEmphasis emphasis) {
  KVLAB_CHECK(decimals >= 0 && decimals <= 17,
              "[report.number_cell] decimals must be 0 to 17, got ", decimals);
  if (!std::isfinite(value)) return empty_cell();
  return {fixed(value, decimals), value, emphasis};
}

ReportCell count_cell(int64_t value, CellEmphasis emphasis) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t place = digits.size(); place > first + 3;) {
    place -= 3;
    digits.insert(place, ",");
  }
  return {digits, static_cast<double>(value), emphasis};
}

ReportCell ratio_cell(const RatioInterval& ratio, CellEmphasis emphasis) {
  if (!std::isfinite(ratio.ratio)) return empty_cell();
  // Three significant digits: two after the point are too few for a slowdown to a hundredth.
  const double size = std::abs(ratio.ratio);
  const int decimals =
      size > 0 ? std::clamp(2 - static_cast<int>(std::floor(std::log10(size))), 2, 6) : 2;
  // A far larger end needs fewer of them: four digits are enough of any number.
  const auto text = [&](double value) {
    const double large = std::abs(value);
    const int enough =
        large >= 10 ? std::max(0, 3 - static_cast<int>(std::log10(large))) : decimals;
    return fixed(value, std::min(decimals, enough));
  };
  ReportCell cell{text(ratio.ratio), ratio.ratio, emphasis, ratio.low, ratio.high};
  if (is_too_wide(ratio)) {
    cell.text += ", interval too wide (n=" + std::to_string(ratio.n) + ")";
  } else if (ratio.low && ratio.high) {
    cell.text += " (" + text(*ratio.low) + " to " + text(*ratio.high) + ")";
  } else {
    cell.text += " (n=" + std::to_string(ratio.n) + ")";
  }
  return cell;
}

ReportCell empty_cell() { return {kDash, std::nullopt, CellEmphasis::muted}; }

void check_document(const ReportDocument& document) {
  KVLAB_CHECK(!document.title.empty(), "[report.check] a report needs a title");
  std::set<std::string> seen;
  for (const auto& section : document.sections) {
    for (const auto& table : section.tables) {
      check_id(table.id, seen);
      check_table(table);
    }
    for (const auto& figure : section.figures) {
      check_id(figure.id, seen);
      KVLAB_CHECK(Json::accept(figure.vega_lite), "[report.check] figure '", figure.id,
                  "' has a specification that is not JSON");
      parse_csv(figure.csv);
    }
  }
  for (const auto& link : document.raw_files) {
    const bool relative = !link.path.empty() && link.path.front() != '/' &&
                          link.path.find(':') == std::string::npos;
    KVLAB_CHECK(relative, "[report.check] a raw file's path is relative to the report, got '",
                link.path, "'");
  }
}

std::string to_json(const ReportDocument& document) {
  Json json{{"schema", kSchema},
            {"title", document.title},
            {"experiment", document.experiment},
            {"question", document.question},
            {"primary_metric", document.primary_metric},
            {"control", document.control},
            {"varied", document.varied},
            {"held_fixed", document.held_fixed},
            {"command", document.command},
            {"conclusions", document.conclusions}};
  json["sections"] = array_of(document.sections, section_json);
  json["checks"] = array_of(document.checks, [](const ReportCheck& check) {
    return Json{{"arm", check.arm},
                {"check", check.check},
                {"passed", check.passed},
                {"detail", check.detail}};
  });
  json["failures"] = array_of(document.failures, [](const ReportFailure& failure) {
    return Json{{"what", failure.what}, {"reason", failure.reason}};
  });
  json["environment"] = array_of(document.environment, [](const ReportFact& fact) {
    return Json{{"name", fact.name}, {"value", fact.value}};
  });
  json["raw_files"] = array_of(document.raw_files, [](const ReportLink& link) {
    return Json{{"title", link.title}, {"path", link.path}};
  });
  json["references"] = array_of(document.references, [](const ReportReference& reference) {
    return Json{
        {"what", reference.what}, {"value", reference.value}, {"source", reference.source}};
  });
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

ReportDocument report_document_from_json(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    const std::string schema = json.value("schema", "");
    KVLAB_CHECK(schema == kSchema, "[report.from_json] schema must be '", kSchema, "', got '",
                schema, "'");
    ReportDocument document;
    document.title = get_text(json, "title");
    document.experiment = get_text(json, "experiment");
    document.question = get_text(json, "question");
    document.primary_metric = get_text(json, "primary_metric");
    document.control = get_text(json, "control");
    document.varied = json.at("varied").get<std::vector<std::string>>();
    document.held_fixed = json.at("held_fixed").get<std::vector<std::string>>();
    document.command = get_text(json, "command");
    document.conclusions = json.at("conclusions").get<std::vector<std::string>>();
    read_list(json, "sections", document.sections, section_from);
    read_list(json, "checks", document.checks, [](const Json& item) {
      return ReportCheck{get_text(item, "arm"), get_text(item, "check"),
                         item.at("passed").get<bool>(), get_text(item, "detail")};
    });
    read_list(json, "failures", document.failures, [](const Json& item) {
      return ReportFailure{get_text(item, "what"), get_text(item, "reason")};
    });
    read_list(json, "environment", document.environment, [](const Json& item) {
      return ReportFact{get_text(item, "name"), get_text(item, "value")};
    });
    read_list(json, "raw_files", document.raw_files, [](const Json& item) {
      return ReportLink{get_text(item, "title"), get_text(item, "path")};
    });
    read_list(json, "references", document.references, [](const Json& item) {
      return ReportReference{get_text(item, "what"), get_text(item, "value"),
                             get_text(item, "source")};
    });
    return document;
  } catch (const nlohmann::json::exception& error) {
    throw UserError(detail::concat("[report.from_json] not a report document: ", error.what()));
  }
}

std::string csv_field(std::string_view text) {
  const bool plain = text.find_first_of(",\"\r\n") == std::string_view::npos;
  if (plain) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + "\"";
}

std::string csv_line(const std::vector<std::string>& fields) {
  std::string line;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    if (i > 0) line += ',';
    line += csv_field(fields[i]);
  }
  return line + "\r\n";
}

std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> records;
  std::vector<std::string> record;
  std::string field;
  bool quoted = false;
  bool started = false;
  const auto end_record = [&] {
    record.push_back(std::exchange(field, {}));
    records.push_back(std::exchange(record, {}));
    started = false;
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += '"';
        ++i;
      } else {
        quoted = false;
      }
    } else if (c == '"' && field.empty()) {
      quoted = started = true;
    } else if (c == ',') {
      record.push_back(std::exchange(field, {}));
      started = true;
    } else if (c == '\n' || c == '\r') {
      if (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n') ++i;
      end_record();
    } else {
      field += c;
      started = true;
    }
  }
  KVLAB_CHECK(!quoted, "[report.parse_csv] a quoted field does not end");
  if (started) end_record();
  return records;
}

std::string to_csv(const ReportTable& table) {
  // A column with intervals gets two more, so that the numbers behind its text are not lost.
  std::vector<bool> with_interval(table.columns.size(), false);
  for (const auto& row : table.rows)
    for (std::size_t i = 0; i < row.size() && i < with_interval.size(); ++i)
      if (row[i].low || row[i].high) with_interval[i] = true;

  std::vector<std::string> fields;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    const auto& column = table.columns[i];
    const std::string unit = column.unit.empty() ? "" : " [" + column.unit + "]";
    fields.push_back(csv_text_field(column.key + unit));
    if (with_interval[i]) {
      fields.push_back(csv_text_field(column.key + "_low" + unit));
      fields.push_back(csv_text_field(column.key + "_high" + unit));
    }
  }
  std::string csv = csv_line(fields);
  for (const auto& row : table.rows) {
    fields.clear();
    for (std::size_t i = 0; i < row.size(); ++i) {
      const auto& cell = row[i];
      if (cell.number) {
        fields.push_back(csv_number(cell.number));
      } else {
        fields.push_back(cell.text == kDash ? std::string() : csv_text_field(cell.text));
      }
      if (with_interval[i]) {
        fields.push_back(csv_number(cell.low));
        fields.push_back(csv_number(cell.high));
      }
    }
    csv += csv_line(fields);
  }
  return csv;
}

}  // namespace kvlab

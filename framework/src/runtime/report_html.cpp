#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string_view>
#include <system_error>

#include "kvlab/core/error.h"
#include "kvlab/runtime/csv_text.h"
#include "kvlab/runtime/report_render.h"
#include "kvlab/runtime/verdict_words.h"
#include "kvlab/runtime/visible_text.h"
#include "report_code.h"
#include "report_page.h"

namespace kvlab {
namespace {

std::string escape(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : visible_text(text, LineBreaks::keep)) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default: escaped += c;
    }
  }
  return escaped;
}

const char* tone_class(VerdictTone tone) {
  switch (tone) {
    case VerdictTone::better: return "better";
    case VerdictTone::worse: return "worse";
    case VerdictTone::refused: return "refused";
    case VerdictTone::neutral: break;
  }
  return "neutral";
}

// Escapes text outside of code and marks the verdicts in it.
std::string marked(std::string_view text) {
  std::string result;
  std::size_t place = 0;
  for (const VerdictPlace& verdict : verdict_places(text)) {
    result += escape(text.substr(place, verdict.begin - place)) + "<span class=\"verdict " +
              tone_class(verdict.tone) + "\">" +
              escape(text.substr(verdict.begin, verdict.length)) + "</span>";
    place = verdict.begin + verdict.length;
  }
  return result + escape(text.substr(place));
}

// Escapes prose, sets `code` between lone backticks and marks verdicts.
std::string prose(const std::string& text) {
  std::string result;
  std::size_t place = 0;
  while (place < text.size()) {
    const auto open = lone_backtick(text, place);
    const auto close = open == std::string::npos ? open : lone_backtick(text, open + 1);
    if (close == std::string::npos) break;
    result += marked(std::string_view(text).substr(place, open - place)) + "<code>" +
              escape(std::string_view(text).substr(open + 1, close - open - 1)) + "</code>";
    place = close + 1;
  }
  return result + marked(std::string_view(text).substr(place));
}

// Only web addresses become links; anything else, such as javascript:, stays text.
std::string text_or_link(const std::string& text) {
  const bool web = (text.rfind("https://", 0) == 0 || text.rfind("http://", 0) == 0) &&
                   text.find_first_of(" \t\r\n") == std::string::npos;
  if (!web) return prose(text);
  return "<a href=\"" + escape(text) + "\" rel=\"noreferrer\">" + escape(text) + "</a>";
}

std::string number_text(double value) {
  std::array<char, 64> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), end.ptr};
}

std::string list(const std::vector<std::string>& items) {
  if (items.size() == 1) return prose(items.front());
  std::string html = "<ul>";
  for (const auto& item : items) html += "<li>" + prose(item) + "</li>";
  return html + "</ul>";
}

const char* emphasis_class(CellEmphasis emphasis) {
  switch (emphasis) {
    case CellEmphasis::best: return " best";
    case CellEmphasis::warning: return " warning";
    case CellEmphasis::muted: return " muted";
    case CellEmphasis::normal: break;
  }
  return "";
}

// A long text wraps; a short one, such as the name of an arm, stays on one line.
const char* length_class(const std::string& text) {
  constexpr std::size_t kLong = 32;  // the first column must fit a narrow window
  return text.size() > kLong ? " long" : "";
}

std::string class_attribute(const std::string& classes) {
  const auto first = classes.find_first_not_of(' ');
  return first == std::string::npos ? "" : " class=\"" + classes.substr(first) + "\"";
}

std::string table_html(const ReportTable& table, int number) {
  std::vector<bool> numeric(table.columns.size(), false);
  bool directed = false;
  for (const auto& row : table.rows)
    for (std::size_t i = 0; i < row.size() && i < numeric.size(); ++i)
      if (row[i].number) numeric[i] = true;

  std::string html = "<h3 id=\"table-" + table.id + "\">Table " + std::to_string(number) + ". " +
                     escape(table.title) + "</h3>\n<div class=\"scroll\" tabindex=\"0\">" +
                     "<table class=\"sortable" + (table.columns.size() > 6 ? " wide" : "") +
                     "\"><thead><tr>";
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    const auto& column = table.columns[i];
    std::string second_line = escape(column.unit);
    if (column.direction != BetterDirection::none) {
      directed = true;
      const bool higher = column.direction == BetterDirection::higher;
      // The arrow stays beside its unit, wherever that wraps.
      second_line += std::string(second_line.empty() ? "" : "\u00a0") + "<span title=\"" +
                     (higher ? "higher" : "lower") + " is better\">" + (higher ? "▲" : "▼") +
                     "</span>";
    }
    html += "<th scope=\"col\"" +
            class_attribute(std::string(numeric[i] ? " num" : "") + length_class(column.title)) +
            "><span class=\"label\">" + escape(column.title) + "</span>";
    if (!second_line.empty()) html += "<span class=\"unit\">" + second_line + "</span>";
    html += "</th>";
  }
  html += "</tr></thead><tbody>\n";
  for (const auto& row : table.rows) {
    html += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const auto& cell = row[i];
      const bool is_number = i < numeric.size() && numeric[i];
      const bool heading = i == 0 && !is_number;
      std::string attributes = class_attribute(std::string(is_number ? " num" : "") +
                                               emphasis_class(cell.emphasis) +
                                               (is_number ? "" : length_class(cell.text)));
      if (cell.number && std::isfinite(*cell.number))
        attributes += " data-value=\"" + number_text(*cell.number) + "\"";
      html += heading ? "<th scope=\"row\"" + attributes + ">" + prose(cell.text) + "</th>"
                      : "<td" + attributes + ">" + prose(cell.text) + "</td>";
    }
    html += "</tr>\n";
  }
  html += "</tbody></table></div>\n";
  std::string below = table.note.empty() ? "" : prose(table.note) + " ";
  if (directed) below += "▲ higher is better, ▼ lower is better. ";
  html += "<p class=\"note\">" + below + "<a href=\"data/" + table.id + ".csv\">CSV</a></p>\n";
  return html;
}

// The value of a field that is a number as a whole.
std::optional<double> field_number(const std::string& field) {
  double value = 0;
  const auto end = std::from_chars(field.data(), field.data() + field.size(), value);
  if (field.empty() || end.ec != std::errc() || end.ptr != field.data() + field.size())
    return std::nullopt;
  return value;
}

// The words behind the apostrophe of `csv_text_field`.
std::string without_guard(const std::string& field) {
  const bool guarded = !field.empty() && field.front() == '\'' &&
                       csv_text_field(field.substr(1)) == field;
  return guarded ? field.substr(1) : field;
}

// Numbers behind a figure, shown where there is no drawing; rounded, since the CSV has all digits.
std::string csv_html(const ReportFigure& figure) {
  constexpr std::size_t kMostRows = 500;
  const auto records = parse_csv(figure.csv);
  if (records.empty()) return "<p class=\"note\">No data.</p>";
  std::string html = "<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>";
  const auto& titles = records.front();
  for (std::size_t column = 0; column < titles.size(); ++column) {
    const bool numeric =
        std::any_of(records.begin() + 1, records.end(), [column](const auto& record) {
          return column < record.size() && field_number(record[column]);
        });
    html += "<th scope=\"col\"" + class_attribute(numeric ? "num" : "") + ">" +
            escape(without_guard(titles[column])) + "</th>";
  }
  html += "</tr></thead><tbody>\n";
  for (std::size_t i = 1; i < records.size() && i <= kMostRows; ++i) {
    html += "<tr>";
    for (const auto& field : records[i]) {
      if (const auto number = field_number(field)) {
        std::array<char, 32> rounded{};
        const bool whole = field.find_first_of(".eE") == std::string::npos;
        std::snprintf(rounded.data(), rounded.size(), "%.5g", *number);
        html += "<td class=\"num\">" + (whole ? escape(field) : rounded.data()) + "</td>";
      } else {
        html += "<td" + class_attribute(length_class(field)) + ">" + escape(without_guard(field)) +
                "</td>";
      }
    }
    html += "</tr>\n";
  }
  html += "</tbody></table></div>";
  if (records.size() > kMostRows + 1)
    html += "<p class=\"note\">The first " + std::to_string(kMostRows) + " of " +
            std::to_string(records.size() - 1) + " rows; the CSV file has all.</p>";
  return html;
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t place = 0; (place = text.find(from, place)) != std::string::npos;
       place += to.size())
    text.replace(place, from.size(), to);
}

// The end of the tag that begins at `begin`; a '>' in a quoted value does not end it.
std::size_t end_of_tag(const std::string& svg, std::size_t begin) {
  char quote = 0;
  for (std::size_t i = begin; i < svg.size(); ++i) {
    if (quote != 0) {
      if (svg[i] == quote) quote = 0;
    } else if (svg[i] == '"' || svg[i] == '\'') {
      quote = svg[i];
    } else if (svg[i] == '>') {
      return i + 1;
    }
  }
  return svg.size();
}

// A tag without the values of its attributes, in small letters: "<text fill= x=>".
std::string bare_tag(const std::string& tag) {
  std::string bare;
  char quote = 0;
  for (const char c : tag) {
    if (quote != 0) {
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else {
      bare += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  return bare;
}

// Whether a tag of a drawing is one that runs nothing and loads nothing. Names of arms stand in the
// text and in labels, where they may say anything.
bool is_passive(const std::string& tag) {
  const std::string bare = bare_tag(tag);
  const std::size_t name = bare.compare(0, 2, "</") == 0 ? 2 : 1;
  constexpr std::array<const char*, 14> kElements{
      "svg",   "g",        "path",   "line",  "rect",    "text",           "tspan",
      "title", "clippath", "circle", "defs",  "polygon", "lineargradient", "stop"};
  const std::string element =
      bare.substr(name, bare.find_first_of(" \t\r\n/>", name) - name);
  const bool known = std::any_of(kElements.begin(), kElements.end(),
                                 [&](const char* allowed) { return element == allowed; });
  return known && bare.find(" on") == std::string::npos &&
         bare.find("href") == std::string::npos;
}

// Prepares a drawing for the page: without a prolog, with names of its own (clip paths of several
// drawings have the same ones). Empty where the text is no drawing or holds anything active.
std::string inline_svg(const std::string& drawing, const ReportFigure& figure) {
  const auto begin = drawing.find("<svg");
  if (begin == std::string::npos) return {};
  std::string svg;
  for (std::size_t place = begin; place < drawing.size();) {
    const std::size_t open = std::min(drawing.find('<', place), drawing.size());
    svg += visible_text(std::string_view(drawing).substr(place, open - place), LineBreaks::keep);
    const std::size_t end = end_of_tag(drawing, open);
    std::string tag = visible_text(drawing.substr(open, end - open), LineBreaks::keep);
    place = end;
    if (tag.empty()) break;
    if (!is_passive(tag)) return {};
    if (bare_tag(tag).find(" id=") != std::string::npos)
      replace_all(tag, " id=\"", " id=\"" + figure.id + "-");
    replace_all(tag, "url(#", "url(#" + figure.id + "-");
    svg += tag;
  }
  svg.insert(4, " role=\"img\" aria-label=\"" + escape(figure.title) + "\"");
  return svg;
}

std::string figure_html(const ReportFigure& figure, int number, const RenderedFigures& figures) {
  const auto drawing = figures.svg.find(figure.id);
  const std::string svg =
      drawing == figures.svg.end() ? std::string() : inline_svg(drawing->second, figure);
  std::string html = "<figure id=\"figure-" + figure.id + "\">";
  html += svg.empty() ? csv_html(figure) : "<div class=\"drawing\">" + svg + "</div>";
  html += "<figcaption><strong>Figure " + std::to_string(number) + ". " + escape(figure.title) +
          "</strong> " + prose(figure.caption) + " <span class=\"files\"><a href=\"data/" +
          figure.id + ".csv\">CSV</a>, <a href=\"fig/" + figure.id +
          ".vl.json\">Vega-Lite</a></span></figcaption></figure>\n";
  return html;
}

std::string plain_table(const std::vector<std::string>& titles,
                        const std::vector<std::vector<std::string>>& html_rows) {
  std::string html =
      "<div class=\"scroll\" tabindex=\"0\"><table class=\"sortable\"><thead><tr>";
  for (const auto& title : titles)
    html += "<th scope=\"col\"><span class=\"label\">" + escape(title) + "</span></th>";
  html += "</tr></thead><tbody>\n";
  for (const auto& row : html_rows) {
    html += "<tr>";
    for (const auto& cell : row) html += "<td>" + cell + "</td>";
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string checks_html(const ReportDocument& document) {
  std::string html = "<h2 id=\"correctness\">Correctness</h2>\n";
  if (document.checks.empty())
    return html + "<p class=\"notice\">No correctness check was made in this run.</p>\n";
  std::vector<std::vector<std::string>> rows;
  for (const auto& check : document.checks)
    rows.push_back({prose(check.arm), prose(check.check),
                    check.passed ? "<span class=\"pass\">✓ passed</span>"
                                 : "<span class=\"fail\">✗ FAILED</span>",
                    prose(check.detail)});
  return html + plain_table({"Arm", "Check", "Result", "Detail"}, rows);
}

std::string status_html(const ReportDocument& document) {
  const auto passed = std::count_if(document.checks.begin(), document.checks.end(),
                                    [](const auto& check) { return check.passed; });
  const auto all = static_cast<std::ptrdiff_t>(document.checks.size());
  const bool good = all > 0 && passed == all && document.failures.empty();
  std::string text;
  if (all == 0) {
    text = "<strong>! No correctness check was made.</strong>";
  } else if (passed == all && all == 1) {
    text = "<strong>✓ The one correctness check passed.</strong>";
  } else if (passed == all) {
    text = "<strong>✓ All " + std::to_string(all) + " correctness checks passed.</strong>";
  } else {
    text = "<strong>✗ " + std::to_string(all - passed) + " of " + std::to_string(all) +
           " correctness checks FAILED.</strong>";
  }
  text += " <a href=\"#correctness\">Details</a>";
  if (!document.failures.empty())
    text += ". <strong>" + std::to_string(document.failures.size()) +
            " failed or skipped.</strong> <a href=\"#failures\">Reasons</a>";
  return "<p class=\"status " + std::string(good ? "good" : "bad") + "\">" + text + "</p>\n";
}

void add_term(std::string& html, const char* name, const std::string& value_html) {
  if (!value_html.empty())
    html += "<dt>" + std::string(name) + "</dt><dd>" + value_html + "</dd>\n";
}

std::string setup_html(const ReportDocument& document) {
  std::string terms;
  add_term(terms, "Primary metric", prose(document.primary_metric));
  add_term(terms, "Control", prose(document.control));
  if (!document.varied.empty()) add_term(terms, "Varied", list(document.varied));
  if (!document.held_fixed.empty()) add_term(terms, "Held fixed", list(document.held_fixed));
  if (!document.command.empty())
    add_term(terms, "Repeat with", "<pre>" + escape(document.command) + "</pre>");
  return terms.empty() ? "" : "<dl>" + terms + "</dl>\n";
}

std::string closing_parts(const ReportDocument& document) {
  std::string html;
  if (!document.failures.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& failure : document.failures)
      rows.push_back({prose(failure.what), prose(failure.reason)});
    html += "<h2 id=\"failures\">Failed or skipped</h2>\n" +
            plain_table({"What", "Reason"}, rows);
  }
  if (!document.references.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& reference : document.references)
      rows.push_back(
          {prose(reference.what), prose(reference.value), text_or_link(reference.source)});
    html += "<h2 id=\"references\">Published figures</h2>\n" +
            plain_table({"What", "Published value", "Source"}, rows);
  }
  if (!document.environment.empty()) {
    html += "<h2 id=\"environment\">Environment</h2>\n<dl>";
    for (const auto& fact : document.environment)
      html += "<dt>" + escape(fact.name) + "</dt><dd>" + prose(fact.value) + "</dd>\n";
    html += "</dl>\n";
  }
  if (!document.raw_files.empty()) {
    html += "<h2 id=\"files\">Raw files</h2>\n<ul>";
    for (const auto& link : document.raw_files)
      html += "<li><a href=\"" + escape(link.path) + "\">" + escape(link.title) +
              "</a> <code>" + escape(link.path) + "</code></li>\n";
    html += "</ul>\n";
  }
  return html;
}

std::string navigation(const ReportDocument& document) {
  std::string html = "<nav aria-label=\"Contents\">";
  const auto add = [&](const std::string& id, const std::string& title) {
    html += "<a href=\"#" + id + "\">" + escape(title) + "</a> ";
  };
  for (std::size_t i = 0; i < document.sections.size(); ++i)
    add("section-" + std::to_string(i + 1), document.sections[i].title);
  add("correctness", "Correctness");
  if (!document.failures.empty()) add("failures", "Failed or skipped");
  if (!document.references.empty()) add("references", "Published figures");
  if (!document.environment.empty()) add("environment", "Environment");
  if (!document.raw_files.empty()) add("files", "Raw files");
  return html + "</nav>\n";
}

}  // namespace

std::string render_html(const ReportDocument& document, const RenderedFigures& figures) {
  std::string html =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>" +
      escape(document.title) + "</title>\n<style>" + report_page::kStyle +
      "</style></head>\n<body><main>\n<header><div class=\"top\"><span class=\"kind\">" +
      escape(document.experiment) +
      "</span><button id=\"theme\" type=\"button\" hidden>Theme</button></div>\n<h1>" +
      escape(document.title) + "</h1>\n";
  if (!document.question.empty())
    html += "<p class=\"question\">" + prose(document.question) + "</p>\n";
  html += "</header>\n";
  if (!document.conclusions.empty()) {
    html += "<div class=\"conclusions\"><h2>Conclusions</h2><ul>";
    for (const auto& sentence : document.conclusions) html += "<li>" + prose(sentence) + "</li>";
    html += "</ul></div>\n";
  }
  html += status_html(document);
  for (const auto& warning : figures.warnings)
    html += "<p class=\"notice\">" + prose(warning) + "</p>\n";
  html += setup_html(document) + navigation(document);

  int table_number = 0;
  int figure_number = 0;
  for (std::size_t i = 0; i < document.sections.size(); ++i) {
    const auto& section = document.sections[i];
    html += "<section><h2 id=\"section-" + std::to_string(i + 1) + "\">" + escape(section.title) +
            "</h2>\n";
    for (const auto& paragraph : section.paragraphs) html += "<p>" + prose(paragraph) + "</p>\n";
    for (const auto& table : section.tables) html += table_html(table, ++table_number);
    for (const auto& figure : section.figures)
      html += figure_html(figure, ++figure_number, figures);
    html += "</section>\n";
  }
  html += checks_html(document) + closing_parts(document);
  html += "<footer>Written by kvlab. The same report as <a href=\"report.md\">Markdown</a> and as "
          "<a href=\"document.json\">data</a>.</footer>\n</main>\n<script>" +
          std::string(report_page::kScript) + "</script></body></html>\n";
  return html;
}

}  // namespace kvlab

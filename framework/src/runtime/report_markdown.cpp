#include <algorithm>
#include <cctype>
#include <string_view>

#include "kvlab/core/error.h"
#include "kvlab/runtime/report_render.h"
#include "kvlab/runtime/visible_text.h"
#include "report_code.h"

namespace kvlab {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

// Text on one line: a line break would end a cell or a list item.
std::string on_one_line(std::string_view text) {
  std::string line = visible_text(text, LineBreaks::keep);
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

// Whether the character at `place` begins something that many viewers link or set as a formula
// without further markup: "://", "www.", "&lt;", "$x$".
bool begins_markup(std::string_view text, std::size_t place) {
  switch (text[place]) {
    case ':': return text.substr(place, 3) == "://";
    case '.': return place >= 3 && text.substr(place - 3, 3) == "www";
    case '&':
      return place + 1 < text.size() && (is_word(text[place + 1]) || text[place + 1] == '#');
    case '$': return true;
    default: return false;
  }
}

// Escapes what Markdown would take for markup. An underscore inside a word is none (block_size).
std::string escape(std::string_view original) {
  const std::string text = on_one_line(original);
  std::string escaped;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool inside_word =
        i > 0 && i + 1 < text.size() && is_word(text[i - 1]) && is_word(text[i + 1]);
    if (std::string_view("\\`*<>[]|").find(c) != std::string_view::npos ||
        ((c == '_' || c == '~') && !inside_word) || begins_markup(text, i))
      escaped += '\\';
    escaped += c;
  }
  return escaped;
}

// Keeps `code` as code. A pipe is escaped there too: in a table it would end the cell. Only lone
// backticks enclose code: Markdown reads a run of them as one longer fence, and what we took for
// code would be markup.
std::string prose(const std::string& original) {
  const std::string text = on_one_line(original);
  std::string result;
  std::size_t place = 0;
  while (true) {
    const auto open = lone_backtick(text, place);
    const auto close = open == std::string::npos ? open : lone_backtick(text, open + 1);
    if (close == std::string::npos) break;
    result += escape(std::string_view(text).substr(place, open - place)) + "`";
    for (std::size_t i = open + 1; i < close; ++i) {
      if (text[i] == '|') result += '\\';
      result += text[i];
    }
    result += "`";
    place = close + 1;
  }
  return result + escape(std::string_view(text).substr(place));
}

// A web address becomes a link; everything else stays text.
std::string text_or_link(const std::string& text) {
  const bool web = (text.rfind("https://", 0) == 0 || text.rfind("http://", 0) == 0) &&
                   text.find_first_of(" \t\r\n<>|`\\") == std::string::npos;
  return web ? "<" + text + ">" : prose(text);
}

// A paragraph must not begin like a heading, a list or a quotation.
std::string paragraph(const std::string& text) {
  std::string result = prose(text);
  const auto first = result.find_first_not_of(' ');
  if (first == std::string::npos) return result;
  result.erase(0, first);
  if (result[0] == '#' || result[0] == '-' || result[0] == '+' || result[0] == '=')
    return "\\" + result;
  const auto digits = result.find_first_not_of("0123456789");
  if (digits != std::string::npos && digits > 0 && (result[digits] == '.' || result[digits] == ')'))
    result.insert(digits, "\\");
  return result;
}

std::string table_row(const std::vector<std::string>& cells) {
  std::string line = "|";
  for (const auto& cell : cells) line += " " + cell + " |";
  return line + "\n";
}

std::string cell_text(const ReportCell& cell) {
  const std::string text = prose(cell.text);
  if (text.empty()) return text;
  if (cell.emphasis == CellEmphasis::best) return "**" + text + "**";
  if (cell.emphasis == CellEmphasis::warning) return "⚠ " + text;
  return text;
}

std::string table_markdown(const ReportTable& table, int number) {
  std::string text = "**Table " + std::to_string(number) + ". " + escape(table.title) + "**\n\n";
  std::vector<std::string> titles;
  std::vector<std::string> rules;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    const auto& column = table.columns[i];
    std::string title = escape(column.title);
    if (!column.unit.empty()) title += " (" + escape(column.unit) + ")";
    if (column.direction == BetterDirection::higher) title += " ▲";
    if (column.direction == BetterDirection::lower) title += " ▼";
    titles.push_back(title);
    const bool numeric = std::any_of(table.rows.begin(), table.rows.end(), [i](const auto& row) {
      return i < row.size() && row[i].number.has_value();
    });
    rules.push_back(numeric ? "---:" : "---");
  }
  text += table_row(titles) + table_row(rules);
  for (const auto& row : table.rows) {
    std::vector<std::string> cells;
    for (const auto& cell : row) cells.push_back(cell_text(cell));
    text += table_row(cells);
  }
  const bool directed =
      std::any_of(table.columns.begin(), table.columns.end(),
                  [](const auto& column) { return column.direction != BetterDirection::none; });
  text += "\n";
  if (!table.note.empty()) text += prose(table.note) + " ";
  if (directed) text += "▲ higher is better, ▼ lower is better. ";
  return text + "[CSV](data/" + table.id + ".csv)\n\n";
}

std::string figure_markdown(const ReportFigure& figure, int number,
                            const RenderedFigures& figures) {
  std::string text;
  if (figures.svg.count(figure.id) > 0)
    text += "![" + escape(figure.title) + "](fig/" + figure.id + ".svg)\n\n";
  text += "**Figure " + std::to_string(number) + ". " + escape(figure.title) + "** ";
  if (!figure.caption.empty()) text += prose(figure.caption) + " ";
  if (figures.svg.count(figure.id) == 0) text += "(Not drawn; the numbers are in the CSV.) ";
  return text + "[CSV](data/" + figure.id + ".csv), [Vega-Lite](fig/" + figure.id + ".vl.json)\n\n";
}

void add_fact(std::string& text, const char* name, const std::vector<std::string>& values) {
  std::string joined;
  for (const auto& value : values) {
    if (value.empty()) continue;
    joined += (joined.empty() ? "" : "; ") + prose(value);
  }
  if (!joined.empty()) text += "- " + std::string(name) + ": " + joined + "\n";
}

// A fence longer than any run of backticks in the text.
std::string code_block(const std::string& original) {
  const std::string text = visible_text(original, LineBreaks::keep);
  std::size_t longest = 2;
  std::size_t run = 0;
  for (const char c : text) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  return fence + "sh\n" + text + "\n" + fence + "\n\n";
}

// Says in one line, above all speeds, whether they can be trusted.
std::string status_markdown(const ReportDocument& document) {
  const std::size_t all = document.checks.size();
  const auto failed = std::count_if(document.checks.begin(), document.checks.end(),
                                    [](const auto& check) { return !check.passed; });
  std::string text;
  if (all == 0) {
    text = "**No correctness check was made in this run.**";
  } else if (failed == 0) {
    text = "✓ All " + std::to_string(all) + " correctness checks passed.";
  } else {
    text = "**✗ " + std::to_string(failed) + " of " + std::to_string(all) +
           " correctness checks FAILED.**";
  }
  if (!document.failures.empty())
    text += " " + std::to_string(document.failures.size()) + " failed or skipped, see below.";
  return text + "\n\n";
}

std::string checks_markdown(const ReportDocument& document) {
  if (document.checks.empty()) return {};
  std::string text = "## Correctness\n\n";
  text += table_row({"Arm", "Check", "Result", "Detail"}) + table_row({"---", "---", "---", "---"});
  for (const auto& check : document.checks)
    text += table_row({prose(check.arm), prose(check.check),
                       check.passed ? "✓ passed" : "**✗ FAILED**", prose(check.detail)});
  return text + "\n";
}

std::string closing_parts(const ReportDocument& document) {
  std::string text;
  if (!document.failures.empty()) {
    text += "## Failed or skipped\n\n";
    for (const auto& failure : document.failures)
      text += "- **" + prose(failure.what) + "**: " + prose(failure.reason) + "\n";
    text += "\n";
  }
  if (!document.references.empty()) {
    text += "## Published figures\n\n" + table_row({"What", "Published value", "Source"}) +
            table_row({"---", "---", "---"});
    for (const auto& reference : document.references)
      text += table_row(
          {prose(reference.what), prose(reference.value), text_or_link(reference.source)});
    text += "\n";
  }
  if (!document.environment.empty()) {
    text += "## Environment\n\n" + table_row({"", ""}) + table_row({"---", "---"});
    for (const auto& fact : document.environment)
      text += table_row({escape(fact.name), prose(fact.value)});
    text += "\n";
  }
  if (!document.raw_files.empty()) {
    text += "## Raw files\n\n";
    for (const auto& link : document.raw_files)
      text += "- [" + escape(link.title) + "](<" + link.path + ">)\n";
    text += "\n";
  }
  return text;
}

}  // namespace

std::string render_markdown(const ReportDocument& document, const RenderedFigures& figures) {
  std::string text = "# " + escape(document.title) + "\n\n";
  if (!document.question.empty()) text += "**Question.** " + prose(document.question) + "\n\n";
  if (!document.conclusions.empty()) {
    text += "## Conclusions\n\n";
    for (const auto& sentence : document.conclusions) text += "- " + paragraph(sentence) + "\n";
    text += "\n";
  }
  text += status_markdown(document);
  for (const auto& warning : figures.warnings) text += "> ⚠ " + prose(warning) + "\n\n";
  text += "## Setup\n\n";
  add_fact(text, "Experiment", {document.experiment});
  add_fact(text, "Primary metric", {document.primary_metric});
  add_fact(text, "Control", {document.control});
  add_fact(text, "Varied", document.varied);
  add_fact(text, "Held fixed", document.held_fixed);
  text += "\n";
  if (!document.command.empty()) text += "Repeat with:\n\n" + code_block(document.command);

  int table_number = 0;
  int figure_number = 0;
  for (const auto& section : document.sections) {
    text += "## " + escape(section.title) + "\n\n";
    for (const auto& words : section.paragraphs) text += paragraph(words) + "\n\n";
    for (const auto& table : section.tables) text += table_markdown(table, ++table_number);
    for (const auto& figure : section.figures)
      text += figure_markdown(figure, ++figure_number, figures);
  }
  text += checks_markdown(document) + closing_parts(document);
  while (text.size() > 1 && text[text.size() - 2] == '\n') text.pop_back();
  return text;
}

}  // namespace kvlab

#include "kvlab/runtime/report_terminal.h"

#include <algorithm>
#include <vector>

#include "kvlab/runtime/visible_text.h"

namespace kvlab {

namespace {

// Characters, not bytes: continuation bytes of UTF-8 take no room.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string padded(const std::string& text, size_t to, bool right) {
  const std::string spaces(to - std::min(to, width(text)), ' ');
  return right ? spaces + text : text + spaces;
}

}  // namespace

std::string terminal_table(const ReportTable& table) {
  const size_t columns = table.columns.size();
  std::vector<std::string> titles(columns);
  std::vector<size_t> widths(columns);
  std::vector<bool> numeric(columns, false);
  for (size_t i = 0; i < columns; ++i) {
    const ReportColumn& column = table.columns[i];
    titles[i] =
        visible_text(column.unit.empty() ? column.title : column.title + " [" + column.unit + "]");
    widths[i] = width(titles[i]);
    for (const auto& row : table.rows) {
      widths[i] = std::max(widths[i], width(visible_text(row[i].text)));
      numeric[i] = numeric[i] || row[i].number.has_value();
    }
  }
  std::string text;
  const auto add_line = [&](auto&& cell) {
    std::string line;
    for (size_t i = 0; i < columns; ++i) {
      line += (i == 0 ? "" : "  ") + padded(cell(i), widths[i], numeric[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_line([&](size_t i) { return titles[i]; });
  add_line([&](size_t i) { return std::string(widths[i], '-'); });
  for (const auto& row : table.rows) {
    add_line([&](size_t i) { return visible_text(row[i].text); });
  }
  return text;
}

}  // namespace kvlab

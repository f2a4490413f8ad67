// Forty nasty names through every output of the framework: shown whole, and never taken for markup.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "kvlab/runtime/csv_text.h"
#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/report_render.h"
#include "kvlab/runtime/report_terminal.h"
#include "kvlab/runtime/run_folder.h"
#include "kvlab/runtime/run_log.h"
#include "kvlab/runtime/verdict_words.h"
#include "kvlab/runtime/visible_text.h"
#include "tests/fixtures/nasty_names.h"
#include "tests/fixtures/nasty_report.h"

namespace kvlab {
namespace {

using Json = nlohmann::json;
using test::nasty_names;
using test::report_of_names;

// Harmless names in the place of the nasty ones: what is built of them has the structure wanted.
std::vector<std::string> plain_names() {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < nasty_names().size(); ++i) names.push_back("name" + std::to_string(i));
  return names;
}

// The tags of a page in order, without attributes. Code and verdicts are marked by us within text.
std::vector<std::string> tags_of(const std::string& html) {
  std::vector<std::string> tags;
  static const std::regex kTag("<(/?[A-Za-z!][A-Za-z0-9]*)");
  for (std::sregex_iterator tag(html.begin(), html.end(), kTag), end; tag != end; ++tag) {
    const std::string name = (*tag)[1];
    if (name != "code" && name != "/code") tags.push_back(name);
  }
  return tags;
}

// Lines of a text that are rows of a table, and how many cells each has: pipes without a backslash.
std::vector<std::size_t> row_widths(const std::string& markdown) {
  std::vector<std::size_t> widths;
  std::istringstream lines(markdown);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line.front() != '|') continue;
    std::size_t pipes = 0;
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '\\') {
        ++i;
      } else if (line[i] == '|') {
        ++pipes;
      }
    }
    widths.push_back(pipes);
  }
  return widths;
}

// Text with what Markdown does not read as markup taken out: escaped characters, and code in one
// backtick, read as a Markdown parser reads it.
std::string active_markdown(const std::string& line) {
  std::string active;
  for (std::size_t i = 0; i < line.size();) {
    if (line[i] == '\\' && i + 1 < line.size()) {
      i += 2;
      continue;
    }
    if (line[i] != '`') {
      active += line[i++];
      continue;
    }
    const std::size_t run = std::min(line.find_first_not_of('`', i), line.size()) - i;
    std::size_t close = std::string::npos;
    for (std::size_t j = i + run; (j = line.find('`', j)) != std::string::npos;) {
      const std::size_t end = std::min(line.find_first_not_of('`', j), line.size());
      if (end - j == run) {
        close = end;
        break;
      }
      j = end;
    }
    if (close == std::string::npos) {
      active.append(run, '`');
      i += run;
    } else {
      i = close;
    }
  }
  return active;
}

bool has_controls(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\n') || byte == 0x7F;
  });
}

TEST(NastyNames, AreFortyAndDifferAlsoWhenShown) {
  std::set<std::string> shown;
  for (const auto& name : nasty_names()) shown.insert(visible_text(name));
  EXPECT_EQ(nasty_names().size(), 40U);
  EXPECT_EQ(shown.size(), 40U);
}

TEST(NastyNames, ShownTextIsUtf8OfOneLineWithoutControls) {
  for (const auto& name : nasty_names()) {
    const std::string shown = visible_text(name);
    EXPECT_FALSE(has_controls(shown)) << shown;
    EXPECT_EQ(shown.find('\n'), std::string::npos);
    EXPECT_NO_THROW(Json(shown).dump()) << "not UTF-8";
    EXPECT_EQ(visible_text(shown), shown) << "shown twice it is the same";
  }
  EXPECT_EQ(visible_text("a\x1b[1m\n\x7f"), "a␛[1m␊␡");
  EXPECT_EQ(visible_text("a\n\tb\r", LineBreaks::keep), "a\n\tb␍");
  EXPECT_EQ(visible_text("\u202ex\u2066"), "⟨U+202E⟩x⟨U+2066⟩");
  EXPECT_EQ(visible_text("\xc0\x80\xff\u009b"), "\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(visible_text("é 😀 שלום"), "é 😀 שלום");
}

TEST(NastyNames, MakeNoElementOfTheHtmlPage) {
  const std::string nasty = render_html(report_of_names(nasty_names()), {});
  const std::string plain = render_html(report_of_names(plain_names()), {});
  EXPECT_EQ(tags_of(nasty), tags_of(plain));
  EXPECT_FALSE(has_controls(std::regex_replace(nasty, std::regex("\t"), "")));
  EXPECT_EQ(nasty.find("href=\"javascript"), std::string::npos);
  EXPECT_NE(nasty.find("&lt;/script&gt;&lt;script&gt;window.nasty=1"), std::string::npos);
}

TEST(NastyNames, KeepTheTablesOfMarkdownAndMakeNoMarkup) {
  const std::string nasty = render_markdown(report_of_names(nasty_names()), {});
  const std::string plain = render_markdown(report_of_names(plain_names()), {});
  EXPECT_EQ(row_widths(nasty), row_widths(plain));
  // The command is a block of code: the line feed of one name stays in it.
  EXPECT_EQ(std::count(nasty.begin(), nasty.end(), '\n'),
            std::count(plain.begin(), plain.end(), '\n') + 1);
  std::istringstream lines(nasty);
  bool fenced = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("```", 0) == 0) fenced = !fenced;
    if (fenced) continue;
    std::string active = active_markdown(line);
    // Links of ours: to the data of a table or figure and to raw files.
    active = std::regex_replace(active, std::regex(R"(\]\((data|fig)/[a-z_.]+\))"), "");
    active = std::regex_replace(active, std::regex(R"(\]\(<\.\./[a-z.]+>\))"), "");
    EXPECT_EQ(active.find('<'), std::string::npos) << line;
    EXPECT_EQ(active.find("]("), std::string::npos) << line;
    EXPECT_EQ(active.find("://"), std::string::npos) << line;
    EXPECT_EQ(active.find('$'), std::string::npos) << line;
    EXPECT_FALSE(has_controls(std::regex_replace(active, std::regex("\t"), ""))) << line;
  }
}

TEST(NastyNames, AreWholeFieldsOfTheCsvAndNoFormulas) {
  const ReportDocument document = report_of_names(nasty_names());
  const auto names = nasty_names();
  std::vector<std::string> texts{to_csv(document.sections[0].tables[0])};
  for (const auto& figure : document.sections[0].figures) texts.push_back(figure.csv);
  for (const auto& text : texts) {
    const auto records = parse_csv(text);
    ASSERT_EQ(records.size(), names.size() + 1) << text.substr(0, 200);
    for (std::size_t i = 0; i < names.size(); ++i) {
      ASSERT_EQ(records[i + 1].size(), records[0].size());
      const std::string& field = records[i + 1][0];
      EXPECT_EQ(std::string("=+-@\t\r").find(field[0]), std::string::npos) << field;
      EXPECT_TRUE(field == names[i] || field == "'" + names[i]) << field;
    }
  }
  EXPECT_EQ(csv_text_field("-1"), "'-1");
  EXPECT_EQ(csv_text_field("a=b"), "a=b");
  EXPECT_EQ(csv_text_field(""), "");
  // A number is no text: a negative one stays a number.
  const ReportTable numbers{"n", "N", {{"x", "X"}}, {{number_cell(-2.5, 1)}}, ""};
  EXPECT_EQ(to_csv(numbers), "x\r\n-2.5\r\n");
}

TEST(NastyNames, AreDataAndNoFieldsOfTheFigures) {
  const ReportDocument document = report_of_names(nasty_names());
  for (const auto& figure : document.sections[0].figures) {
    const Json specification = Json::parse(figure.vega_lite);
    const std::string text = specification.dump();
    for (const auto& name : nasty_names()) {
      const std::string quoted = Json(visible_text(name)).dump();
      EXPECT_NE(text.find(quoted), std::string::npos) << figure.id << " " << quoted;
      EXPECT_EQ(text.find("\"field\":" + quoted), std::string::npos) << figure.id;
    }
    EXPECT_EQ(text.find("\\u00"), std::string::npos) << "a control character is in " << figure.id;
  }
}

TEST(NastyNames, CannotDriveATerminal) {
  const ReportDocument document = report_of_names(nasty_names());
  const std::string text = terminal_table(document.sections[0].tables[0]);
  EXPECT_FALSE(has_controls(text));
  EXPECT_EQ(text.find("\u009b"), std::string::npos);
  // Title, rule and one line per name.
  EXPECT_EQ(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')),
            nasty_names().size() + 2);
}

TEST(NastyNames, SurviveTheDocumentsJson) {
  const ReportDocument document = report_of_names(nasty_names());
  const ReportDocument again = report_document_from_json(to_json(document));
  for (std::size_t i = 0; i < nasty_names().size(); ++i) {
    const std::string& name = again.sections[0].tables[0].rows[i][0].text;
    EXPECT_EQ(visible_text(name), visible_text(nasty_names()[i]));
  }
}

TEST(NastyNames, AreOneLineOfTheLog) {
  std::string folder =
      (std::filesystem::temp_directory_path() / "kvlab_nasty_XXXXXX").string();
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/log.txt";
  std::ostringstream screen;
  {
    RunLog log(screen, path);
    // A line feed ends a line of any stream; what writes a name shows it.
    for (const auto& name : nasty_names()) log.stream() << "arm " << visible_text(name) << "\n";
    log.stream() << "raw \x1b]0;title\a\r\n";
  }
  std::ifstream file(path, std::ios::binary);
  const std::string kept{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::filesystem::remove_all(folder);
  for (const auto& text : {kept, screen.str()}) {
    EXPECT_FALSE(has_controls(text));
    EXPECT_EQ(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')),
              nasty_names().size() + 1);
    EXPECT_NE(text.find("raw ␛]0;title␇␍"), std::string::npos);
  }
}

TEST(VerdictWords, AreMarkedWhereTheyAreAVerdict) {
  const std::string text = "a is 1.02x [0.99, 1.05] of b: not distinguishable; c: slower";
  const auto places = verdict_places(text);
  ASSERT_EQ(places.size(), 2U);
  EXPECT_EQ(text.substr(places[0].begin, places[0].length), "not distinguishable");
  EXPECT_EQ(places[0].tone, VerdictTone::neutral);
  EXPECT_EQ(places[1].tone, VerdictTone::worse);
  EXPECT_EQ(verdict_places("faster (Holm)").size(), 1U);
  EXPECT_TRUE(verdict_places("cannot make this run faster by more").empty());
  EXPECT_TRUE(verdict_places("fasters").empty());

  ReportDocument document;
  document.title = "T";
  document.conclusions = {"paged runs at 0.8x the speed of concat: slower."};
  const std::string html = render_html(document, {});
  EXPECT_NE(html.find("concat: <span class=\"verdict worse\">slower</span>."), std::string::npos);
}

}  // namespace
}  // namespace kvlab

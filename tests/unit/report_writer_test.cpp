#include "kvlab/runtime/report_writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "kvlab/core/error.h"
#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/report_render.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A folder that is gone after the test.
class ReportWriter : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "kvlab_report_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  // A renderer that is a shell script: what it does is `body`, with the folder as $1.
  ReportOptions renderer(const std::string& body) {
    const fs::path script = root_ / "renderer.sh";
    std::ofstream(script) << body << "\n";
    return {"/bin/sh", script.string(), 20};
  }
  std::string target() const { return (root_ / "report").string(); }

  std::string refusal(const ReportDocument& document, const std::string& folder) {
    try {
      write_report(document, folder, {});
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }
  // Names in the root beside the report; an unfinished folder would be one.
  std::size_t entries() const {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator(root_), fs::directory_iterator()));
  }

  fs::path root_;
};

ReportDocument small_document() {
  ReportDocument document;
  document.title = "Small";
  document.experiment = "generation_benchmark";
  ReportTable table{"arms", "Arms", {{"arm", "Arm"},
                                     {"speed", "Speed", "tokens/s", BetterDirection::higher}},
                    {{text_cell("a|b"), number_cell(1234.5, 1, CellEmphasis::best)},
                     {text_cell("block_size, \"x\""), number_cell(2.25, 2)}},
                    ""};
  document.sections = {
      {"Main", {"Uses `eager|x` & more."}, {table},
       {line_chart({"speed", "Speed", "Caption."}, {"x"}, {"y"}, {{"series one", {{1, 42.5}}}})}}};
  document.checks = {{"a", "equality", true, "ok"}, {"b", "equality", false, "differs"}};
  document.raw_files = {{"Samples", "../samples.jsonl"}};
  return document;
}

TEST_F(ReportWriter, WritesAllFilesAndNothingElse) {
  const WrittenReport written = write_report(small_document(), target() + "/", {});
  for (const char* name : {"index.html", "report.md", "document.json", "data/arms.csv",
                           "data/speed.csv", "fig/speed.vl.json"})
    EXPECT_TRUE(fs::exists(root_ / "report" / name)) << name;
  EXPECT_EQ(written.html, (root_ / "report" / "index.html").string());
  EXPECT_TRUE(report_document_from_json(read(root_ / "report/document.json")) == small_document());
  EXPECT_EQ(read(root_ / "report/data/arms.csv"),
            "arm,speed [tokens/s]\r\na|b,1234.5\r\n\"block_size, \"\"x\"\"\",2.25\r\n");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(ReportWriter, WithoutARendererTheReportSaysSoAndShowsTheNumbers) {
  const WrittenReport written =
      write_report(small_document(), target(), {"", root_ / "render_figures.py"});
  const std::string line =
      "figures were not rendered: run tools/setup (installs vl-convert-python) and then kvlab "
      "report RUN";
  ASSERT_EQ(written.warnings, std::vector<std::string>{line});
  EXPECT_EQ(written.figures, 1);
  EXPECT_EQ(written.figures_rendered, 0);
  const std::string html = read(written.html);
  EXPECT_TRUE(has(html, line));
  EXPECT_TRUE(has(html, "<td class=\"num\">42.5</td>"));
  EXPECT_FALSE(has(html, "<svg"));
  const std::string markdown = read(written.markdown);
  EXPECT_TRUE(has(markdown, line));
  EXPECT_FALSE(has(markdown, "![")) << "an image that does not exist";
  EXPECT_FALSE(fs::exists(root_ / "report/fig/speed.svg"));
}

TEST_F(ReportWriter, WhereNoDrawingWasAskedForThePageSaysWhatDrawsThem) {
  const WrittenReport written = write_report(small_document(), target(), {});
  EXPECT_EQ(written.figures_rendered, 0);
  const std::string html = read(written.html);
  EXPECT_TRUE(has(html, "<code>kvlab report FOLDER</code> draws them"));
  EXPECT_FALSE(has(html, "tools/setup")) << "nothing is missing";
  EXPECT_TRUE(has(read(written.markdown), "`kvlab report FOLDER` draws them"));
}

TEST_F(ReportWriter, DrawingsAreInlinedWithNamesOfTheirOwn) {
  const auto options = renderer(
      "echo '<?xml version=\"1.0\"?><svg width=\"9\"><g id=\"clip0\"/>"
      "<g clip-path=\"url(#clip0)\"/></svg>' > \"$1/speed.svg\"");
  const WrittenReport written = write_report(small_document(), target(), options);
  EXPECT_TRUE(written.warnings.empty());
  EXPECT_EQ(written.figures_rendered, 1);
  const std::string html = read(written.html);
  EXPECT_TRUE(has(html, "<svg role=\"img\" aria-label=\"Speed\" width=\"9\">"
                        "<g id=\"speed-clip0\"/><g clip-path=\"url(#speed-clip0)\"/></svg>"));
  EXPECT_FALSE(has(html, "<?xml"));
  EXPECT_TRUE(has(read(written.markdown), "![Speed](fig/speed.svg)"));
}

TEST_F(ReportWriter, AFailingRendererCostsTheDrawingsAndNotTheReport) {
  const auto options = renderer("echo 'speed.vl.json: <b>no mark</b>' >&2; exit 1");
  const WrittenReport written = write_report(small_document(), target(), options);
  ASSERT_EQ(written.warnings.size(), 1u);
  EXPECT_TRUE(has(written.warnings[0], "The renderer says: speed.vl.json: <b>no mark</b>"));
  EXPECT_TRUE(has(read(written.html), "&lt;b&gt;no mark&lt;/b&gt;"));
  EXPECT_EQ(written.figures_rendered, 0);
}

TEST_F(ReportWriter, ASlowRendererIsStopped) {
  ReportOptions options = renderer("exec sleep 60");
  options.renderer_timeout_seconds = 1;
  const WrittenReport written = write_report(small_document(), target(), options);
  ASSERT_EQ(written.warnings.size(), 1u);
  EXPECT_TRUE(has(written.warnings[0], "stopped after 1 s")) << written.warnings[0];
}

TEST_F(ReportWriter, AMissingPackageIsNamedByTheScript) {
  // A python that cannot import vl_convert: the script is real, -S -I hides installed packages.
  const fs::path python = root_ / "python.sh";
  std::ofstream(python) << "#!/bin/sh\nexec python3 -I -S \"$@\"\n";
  fs::permissions(python, fs::perms::owner_all);
  const std::string script = std::string(KVLAB_SOURCE_DIR) + "/tools/report/render_figures.py";
  const WrittenReport written = write_report(small_document(), target(), {python, script, 60});
  ASSERT_EQ(written.warnings.size(), 1u);
  EXPECT_TRUE(has(written.warnings[0], "pip install 'vl-convert-python==1.9.*'"))
      << written.warnings[0];
}

TEST_F(ReportWriter, ReplacesAnEarlierReport) {
  write_report(small_document(), target(), renderer("echo '<svg></svg>' > \"$1/speed.svg\""));
  EXPECT_TRUE(fs::exists(root_ / "report/fig/speed.svg"));
  ReportDocument other;
  other.title = "Other";
  write_report(other, target(), {});
  EXPECT_TRUE(has(read(root_ / "report/report.md"), "# Other"));
  EXPECT_FALSE(fs::exists(root_ / "report/fig/speed.svg"));
  EXPECT_FALSE(fs::exists(root_ / "report/data/arms.csv"));
}

TEST_F(ReportWriter, RefusesToReplaceWhatIsNoReport) {
  fs::create_directories(target());
  std::ofstream(root_ / "report/thesis.tex") << "years of work";
  EXPECT_EQ(refusal(small_document(), target()),
            "[report.write] " + target() +
                " holds files that are no kvlab report: name another folder, or empty it");
  EXPECT_EQ(read(root_ / "report/thesis.tex"), "years of work");
}

TEST_F(ReportWriter, AFolderThatCannotBeMadeIsNamed) {
  std::ofstream(root_ / "file") << "x";
  const std::string folder = (root_ / "file" / "report").string();
  EXPECT_EQ(refusal(small_document(), folder),
            "[report.write] cannot write " + folder + ": Not a directory");
  EXPECT_EQ(refusal(small_document(), (root_ / "file").string()),
            "[report.write] cannot write " + (root_ / "file").string() +
                ": it exists and is not a folder");
}

// A limit on file sizes stands in for a full disk: writes fail half-way in the same manner.
TEST_F(ReportWriter, AFullDiskLeavesTheOldReportAndNothingHalfWritten) {
  write_report(small_document(), target(), {});
  ReportDocument larger = small_document();
  larger.title = "Larger";
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = 200;
  auto* old_handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  const std::string message = refusal(larger, target());
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(has(message, "[report.write] cannot write ")) << message;
  EXPECT_TRUE(has(message, "File too large")) << message;
  EXPECT_TRUE(has(read(root_ / "report/report.md"), "# Small"));
  EXPECT_EQ(entries(), 1u);
}

TEST_F(ReportWriter, AMalformedDocumentWritesNothing) {
  ReportDocument document = small_document();
  document.sections[0].tables[0].rows[0].pop_back();
  EXPECT_THROW(write_report(document, target(), {}), UserError);
  EXPECT_EQ(entries(), 0u);
}

TEST_F(ReportWriter, HtmlEscapesEverythingTheUserWrote) {
  const std::string evil = "<script>alert('x\"y')</script>";
  ReportDocument document;
  document.title = document.experiment = document.question = document.primary_metric = evil;
  document.control = document.command = evil;
  document.varied = document.held_fixed = document.conclusions = {evil, "`" + evil + "`"};
  document.sections = {{evil, {evil},
                        {{"t", evil, {{evil, evil, evil}}, {{text_cell(evil)}}, evil}},
                        {{"f", evil, evil, "{}", csv_line({evil}) + csv_line({evil})}}}};
  document.checks = {{evil, evil, false, evil}};
  document.failures = {{evil, evil}};
  document.environment = {{evil, evil}};
  document.raw_files = {{evil, "a\"><script>"}};
  document.references = {{evil, evil, evil}, {"x", "y", "javascript:alert(1)"}};
  const std::string html = render_html(document, {{}, {evil}});
  EXPECT_FALSE(has(html, "<script>alert"));
  EXPECT_FALSE(has(html, "\"><script>"));
  EXPECT_FALSE(has(html, "href=\"javascript"));
  EXPECT_TRUE(has(html, "&lt;script&gt;alert(&#39;x&quot;y&#39;)&lt;/script&gt;"));
  // The only script is the page's own.
  EXPECT_EQ(html.find("<script"), html.rfind("<script"));
}

TEST_F(ReportWriter, ADrawingWithAScriptIsNotInlined) {
  ReportDocument document = small_document();
  const std::string html =
      render_html(document, {{{"speed", "<svg><SCRIPT>alert(1)</SCRIPT></svg>"}}, {}});
  EXPECT_FALSE(has(html, "alert(1)"));
  EXPECT_TRUE(has(html, "<td class=\"num\">42.5</td>"));
}

TEST_F(ReportWriter, HtmlLoadsNothingFromElsewhere) {
  const std::string html = render_html(small_document(), {});
  for (const char* outside : {"src=", "@import", "url(http", "<link"})
    EXPECT_FALSE(has(html, outside)) << outside;
}

TEST_F(ReportWriter, HtmlSortsByNumberAndMarksChecksWithWords) {
  const std::string html = render_html(small_document(), {});
  EXPECT_TRUE(has(html, "<td class=\"num best\" data-value=\"1234.5\">1234.5</td>"));
  EXPECT_TRUE(has(html, "✓ passed"));
  EXPECT_TRUE(has(html, "✗ FAILED"));
  EXPECT_TRUE(has(html, "✗ 1 of 2 correctness checks FAILED."));
  EXPECT_TRUE(has(html, "href=\"../samples.jsonl\""));
  EXPECT_TRUE(has(render_html(ReportDocument{}, {}), "No correctness check was made"));
}

TEST_F(ReportWriter, MarkdownEscapesPipesAndMarkup) {
  const std::string markdown = render_markdown(small_document(), {});
  EXPECT_TRUE(has(markdown, "| a\\|b | **1234.5** |")) << markdown;
  EXPECT_TRUE(has(markdown, "| block_size, \"x\" | 2.25 |"));
  EXPECT_TRUE(has(markdown, "| Arm | Speed (tokens/s) ▲ |\n| --- | ---: |"));
  EXPECT_TRUE(has(markdown, "Uses `eager\\|x` & more."));
  EXPECT_TRUE(has(markdown, "**✗ 1 of 2 correctness checks FAILED.**"));

  EXPECT_TRUE(has(render_markdown(ReportDocument{}, {}), "No correctness check was made"));

  ReportDocument document;
  document.title = "a *b*\n_c_ <d>";
  document.sections = {{"s", {"# no heading", "1. no list", "- no list"}, {}, {}}};
  const std::string text = render_markdown(document, {});
  EXPECT_TRUE(has(text, "# a \\*b\\* \\_c\\_ \\<d\\>\n"));
  EXPECT_TRUE(has(text, "\n\\# no heading\n"));
  EXPECT_TRUE(has(text, "\n1\\. no list\n"));
  EXPECT_TRUE(has(text, "\n\\- no list\n"));
}

TEST_F(ReportWriter, FindsTheRendererBesideTheSourcesUnlessTheEnvironmentNamesOne) {
  const char* old = std::getenv("KVLAB_PYTHON");
  const std::string kept = old == nullptr ? "" : old;
  ::unsetenv("KVLAB_PYTHON");
  EXPECT_EQ(find_renderer(root_).renderer_python, "");
  EXPECT_EQ(find_renderer(root_).renderer_script, (root_ / "tools/report/render_figures.py"));
  fs::create_directories(root_ / ".deps/venv/bin");
  std::ofstream(root_ / ".deps/venv/bin/python") << "";
  EXPECT_EQ(find_renderer(root_).renderer_python, root_ / ".deps/venv/bin/python");
  ::setenv("KVLAB_PYTHON", "/opt/python", 1);
  EXPECT_EQ(find_renderer(root_).renderer_python, "/opt/python");
  if (old == nullptr) {
    ::unsetenv("KVLAB_PYTHON");
  } else {
    ::setenv("KVLAB_PYTHON", kept.c_str(), 1);
  }
}

// Draws one figure of each kind with the real renderer, which tools/setup installs.
TEST_F(ReportWriter, TheRealRendererDrawsEveryKindOfFigure) {
  const ReportOptions options = find_renderer(KVLAB_SOURCE_DIR);
  ASSERT_FALSE(options.renderer_python.empty()) << "no Python with vl-convert: run tools/setup";
  ReportDocument document;
  document.title = "Figures";
  document.sections = {
      {"All", {}, {},
       {line_chart({"line", "Line"}, {"x", true, 2}, {"y", true},
                   {{"a", {{1, 1, 0.9, 1.1}, {2, 2}}}, {"b", {{1, 2}}, true, false}},
                   {{ReferenceRule::Axis::x, 1.5, "rule"}, {ReferenceRule::Axis::y, 1, "one"}}),
        bar_chart({"bar", "Bar"}, {"v"}, {{"a", 1, 0.5, 1.5}, {"b", 2}}),
        bar_chart({"stack", "Stack"}, {"v"}, {{"a", 1, {}, {}, "p"}, {"a", 2, {}, {}, "q"}},
                  BarLayout::stacked),
        scatter_chart({"scatter", "Scatter"}, {"x"}, {"y"}, {{1, 2, "p"}, {2, 1, "q", true}}),
        grid_chart({"grid", "Grid"}, "row", "column", {{"arm", {{0, 0, "c", "C"}}}})}}};
  const WrittenReport written = write_report(document, target(), options);
  EXPECT_EQ(written.figures_rendered, 5);
  EXPECT_TRUE(written.warnings.empty()) << written.warnings[0];
  EXPECT_TRUE(has(read(root_ / "report/fig/line.svg"), "rule"));
}

}  // namespace
}  // namespace kvlab

// Reports in a real browser without a network: what tests/browser/check_report.py finds.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "kvlab/runtime/report_writer.h"
#include "kvlab/runtime/visible_text.h"
#include "tests/fixtures/nasty_names.h"
#include "tests/fixtures/nasty_report.h"
#include "tests/fixtures/run_config.h"
#include "tests/fixtures/run_program.h"

namespace kvlab {
namespace {

constexpr int kNoBrowser = 77;

// Screenshots stay in the build folder, to be looked at.
std::string screenshots(const std::string& name) {
  return std::string(KVLAB_BINARY_DIR) + "/test-results/browser/" + name;
}

ProgramResult look_at(const std::string& page, const std::string& name,
                      const std::vector<std::string>& more = {}) {
  std::vector<std::string> words{"/usr/bin/env", "python3",
                                 KVLAB_SOURCE_DIR "/tests/browser/check_report.py", page,
                                 screenshots(name)};
  words.insert(words.end(), more.begin(), more.end());
  return run_program(words, 240);
}

// Cells show `code` without its backticks, and line breaks as the page has them.
std::string in_a_cell(const std::string& name) {
  return std::regex_replace(visible_text(name, LineBreaks::keep),
                            std::regex("(^|[^`])`([^`]+)`(?!`)"), "$1$2");
}

TEST(BrowserReport, ARunsReportSortsAndChangesThemesWithoutErrorsOrRequests) {
  const test::TemporaryFolder folder;
  const ProgramResult run = run_program(
      {KVLAB_BINARY_DIR "/bin/kvlab", "run", KVLAB_SOURCE_DIR "/configs/experiments/teaching_toy.yaml",
       "--runs", folder.file("runs"), "measure.repeats=2"},
      240);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto at = run.out.find("Report: ");
  ASSERT_NE(at, std::string::npos) << run.out;
  const std::string page = run.out.substr(at + 8, run.out.find('\n', at) - at - 8);
  const ProgramResult looked = look_at(page, "run");
  if (looked.exit_code == kNoBrowser) GTEST_SKIP() << looked.err;
  EXPECT_EQ(looked.exit_code, 0) << looked.err;
  EXPECT_GT(std::filesystem::file_size(screenshots("run") + "/dark.png"), 10000U);
}

TEST(BrowserReport, NastyNamesAreShownLetterByLetterAndMakeNothing) {
  const test::TemporaryFolder folder;
  nlohmann::json names = nlohmann::json::array();
  for (const std::string& name : test::nasty_names()) names.push_back(in_a_cell(name));
  const std::string list = folder.write("names.json", names.dump());
  const WrittenReport written =
      write_report(test::report_of_names(test::nasty_names()), folder.file("report"),
                   find_renderer(KVLAB_SOURCE_DIR));
  EXPECT_EQ(written.figures_rendered, written.figures)
      << (written.warnings.empty() ? "" : written.warnings.front());
  const ProgramResult looked = look_at(written.html, "names", {"--names", list});
  if (looked.exit_code == kNoBrowser) GTEST_SKIP() << looked.err;
  EXPECT_EQ(looked.exit_code, 0) << looked.err;
}

}  // namespace
}  // namespace kvlab

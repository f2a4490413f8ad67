// tools/new_plugin: what it writes builds, conforms and runs before anything is changed, and what it
// refuses leaves nothing behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/fixtures/plugin_project.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Words = std::vector<std::string>;

const std::string kSource = KVLAB_SOURCE_DIR;
const std::string kProgram = KVLAB_BINARY_DIR "/bin/kvlab";

ProgramResult new_plugin(const Words& words) {
  Words command = {kSource + "/tools/new_plugin"};
  command.insert(command.end(), words.begin(), words.end());
  return run_program(command);
}

std::string text_of(const ProgramResult& result) { return result.out + result.err; }

class NewPlugin : public testing::TestWithParam<std::string> {};

// A row of the kit's table per property, the plugin's own test, and a report.
TEST_P(NewPlugin, ConformsAndRunsBeforeAnythingIsChanged) {
  const std::string& kind = GetParam();
  const TemporaryFolder folder;
  const ProgramResult written = new_plugin({kind, "my_idea", "--into", folder.path()});
  ASSERT_EQ(written.exit_code, 0) << text_of(written);
  const std::string project = folder.file("my_idea");
  ASSERT_NO_THROW(build_plugin_project(project));
  const std::string library = project + "/build/my_idea.so";

  const ProgramResult own = run_program({project + "/build/my_idea_tests"});
  EXPECT_EQ(own.exit_code, 0) << text_of(own);
  EXPECT_THAT(own.out, HasSubstr("[  PASSED  ]"));

  const ProgramResult check = run_program({kProgram, "plugin", "check", library}, 400);
  EXPECT_EQ(check.exit_code, 0) << text_of(check);
  EXPECT_THAT(check.out, HasSubstr(" 0 failed"));

  const ProgramResult run = run_program(
      {kProgram, "run", project + "/experiment.yaml", "--runs", folder.file("runs")}, 120);
  EXPECT_EQ(run.exit_code, 0) << text_of(run);
  EXPECT_THAT(run.out, HasSubstr("Report: "));
}

INSTANTIATE_TEST_SUITE_P(EveryKind, NewPlugin, testing::Values("cache", "attention", "position"),
                         [](const auto& kind) { return kind.param; });

TEST(NewPluginRefusal, NamesTheReasonAndWritesNothing) {
  const TemporaryFolder folder;
  const std::vector<std::pair<Words, std::string>> cases = {
      {{"cache", "paged"}, "cache 'paged' exists"},
      {{"cache", "My_Idea"}, "is no name"},
      {{"cache", "9lives"}, "is no name"},
      {{"cache", "a__b"}, "is no name"},
      {{"cache", "ends_"}, "is no name"},
      {{"cache", "../up"}, "is no name"},
      {{"cache", ""}, "is no name"},
      {{"cache", std::string(41, 'a')}, "is too long"},
      {{"cache", "class"}, "means something in C++"},
      {{"attention", "null"}, "means something in YAML"},
      {{"cache", "rowwise"}, "would be class RowwiseCache, which is the framework's"},
      {{"attention", "dense"}, "would be class DenseAttention, which is the framework's"},
      {{"tokenizer", "my_idea"}, "is no kind: cache, attention, position"},
      {{"cache"}, "give a kind and a name"},
      {{"cache", "my_idea", "more"}, "give a kind and a name"},
      {{"cache", "my_idea", "--force"}, "unknown option --force"}};
  for (const auto& [words, reason] : cases) {
    SCOPED_TRACE(testing::PrintToString(words));
    Words command = words;
    command.insert(command.end(), {"--into", folder.path()});
    const ProgramResult result = new_plugin(command);
    EXPECT_EQ(result.exit_code, 2) << text_of(result);
    EXPECT_THAT(result.err, HasSubstr(reason));
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(fs::is_empty(folder.path()));
  }
}

TEST(NewPluginRefusal, LeavesAnExistingFolderAsItIs) {
  const TemporaryFolder folder;
  fs::create_directory(folder.file("my_idea"));
  folder.write("my_idea/README.md", "mine");
  const ProgramResult result = new_plugin({"cache", "my_idea", "--into", folder.path()});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("exists; nothing was written"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.file("my_idea")), {}), 1);
}

// The folder's name is taken by a file: found out while writing.
TEST(NewPluginRefusal, LeavesNothingWhereAFolderCannotBeMade) {
  const TemporaryFolder folder;
  folder.write("file", "no folder");
  const ProgramResult result = new_plugin({"cache", "my_idea", "--into", folder.file("file")});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("nothing was written"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

// In the repository itself: a name whose config exists already is refused before the plugin's folder
// is made.
TEST(NewPluginRefusal, ComesBeforeTheFirstFileIsWritten) {
  ASSERT_TRUE(fs::exists(kSource + "/configs/experiments/quickstart.yaml"));
  const ProgramResult result = new_plugin({"cache", "quickstart"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("configs/experiments/quickstart.yaml exists"));
  EXPECT_FALSE(fs::exists(kSource + "/plugins/cache/quickstart"));
  EXPECT_FALSE(fs::exists(kSource + "/configs/caches/quickstart.yaml"));
}

TEST(NewPluginHelp, SaysWhatIsWrittenAndWhatComesNext) {
  const ProgramResult result = new_plugin({"-h"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("usage: tools/new_plugin KIND NAME"));
  EXPECT_THAT(result.out, HasSubstr("tools/try_plugin"));
}

}  // namespace
}  // namespace kvlab

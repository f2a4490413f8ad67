// plugins/README.md: its ten steps are followed, its code is built, and its catalogue is the
// registry's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "tests/fixtures/plugin_project.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

using testing::HasSubstr;

const std::string kSource = KVLAB_SOURCE_DIR;
const std::string kProgram = KVLAB_BINARY_DIR "/bin/kvlab";

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// The fenced blocks whose first line is a comment that names a file: name and the lines below it.
std::map<std::string, std::string> named_blocks(const std::string& page) {
  std::map<std::string, std::string> blocks;
  std::istringstream lines(page);
  std::string line, name;
  bool inside = false;
  while (std::getline(lines, line)) {
    if (line.starts_with("```")) {
      inside = !inside;
      name.clear();
      if (!inside || !std::getline(lines, line)) continue;
      for (const char* comment : {"// ", "# "}) {
        if (line.starts_with(comment)) name = line.substr(std::string(comment).size());
      }
      if (name.find_first_of(" /") != std::string::npos) name.clear();
      if (name.empty()) continue;
      EXPECT_TRUE(blocks.emplace(name, "").second) << name << " is there twice";
    } else if (inside && !name.empty()) {
      blocks[name] += line + "\n";
    }
  }
  return blocks;
}

TEST(TenSteps, LeadToACacheThatConforms) {
  const auto blocks = named_blocks(read_file(kSource + "/plugins/README.md"));
  ASSERT_EQ(blocks.size(), 5u);
  const TemporaryFolder folder;
  for (const auto& [name, text] : blocks) folder.write(name, text);
  ASSERT_NO_THROW(build_plugin_project(folder.path()));
  const ProgramResult own = run_program({folder.file("build/my_idea_tests")});
  EXPECT_EQ(own.exit_code, 0) << own.out << own.err;
  const ProgramResult check =
      run_program({kProgram, "plugin", "check", folder.file("build/my_idea.so")}, 400);
  EXPECT_EQ(check.exit_code, 0) << check.out << check.err;
  EXPECT_THAT(check.out, HasSubstr(" 0 failed"));
}

// The first step's command writes what the page shows.
TEST(TenSteps, ShowWhatNewPluginWrites) {
  const TemporaryFolder folder;
  const ProgramResult written = run_program(
      {kSource + "/tools/new_plugin", "cache", "my_idea", "--into", folder.path()});
  ASSERT_EQ(written.exit_code, 0) << written.err;
  for (const auto& [name, text] : named_blocks(read_file(kSource + "/plugins/README.md"))) {
    EXPECT_EQ(text, read_file(folder.file("my_idea/" + name)))
        << name << ": copy it from tools/new_plugin cache my_idea";
  }
}

TEST(Catalogue, IsWhatTheRegistrySays) {
  const ProgramResult result =
      run_program({kSource + "/tools/catalogue", "--kvlab", kProgram});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
}

TEST(Catalogue, HasEveryPluginWithItsPromisesAndSource) {
  const ProgramResult result = run_program({kProgram, "list", "--markdown"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("| [paged](cache/paged/README.md) | Blocks from one pool"));
  EXPECT_THAT(result.out, HasSubstr("exact; truncates; forks"));
  EXPECT_THAT(result.out, HasSubstr("`block_size` (default `64` tokens): Tokens per block."));
  EXPECT_THAT(result.out, HasSubstr("arXiv:2309.06180"));
  EXPECT_THAT(result.out, HasSubstr("| [rope](position/rope/README.md) |"));
  EXPECT_THAT(result.out, HasSubstr("| [eager](attention/eager/README.md) |"));
}

TEST(Catalogue, HoldsNoExperiments) {
  EXPECT_EQ(run_program({kProgram, "list", "experiments", "--markdown"}).exit_code, 2);
  EXPECT_EQ(run_program({kProgram, "list", "--json", "--markdown"}).exit_code, 2);
}

}  // namespace
}  // namespace kvlab

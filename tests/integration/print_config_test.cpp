// kvlab run --print-config: what a config says, and where it says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "kvlab/runtime/config_node.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";

ProgramResult print(const std::string& command, const std::string& config,
                    std::vector<std::string> more) {
  std::vector<std::string> words = {kBinary, command, config};
  words.insert(words.end(), more.begin(), more.end());
  words.emplace_back("--print-config");
  return run_program(words);
}

TEST(PrintConfig, FollowsFilesAndOverridesAndReadsBackTheSame) {
  const ProgramResult result = print("run", "work_trace", {"+measure.repeats=3"});
  EXPECT_EQ(result.exit_code, 2) << "this kind reads no measure";
  const ProgramResult printed = print("run", "isolated_arms", {"measure.repeats=3"});
  ASSERT_EQ(printed.exit_code, 0) << printed.err;
  const ConfigNode root = parse_config_text(printed.out, "printed.yaml");
  EXPECT_EQ(root.find("measure")->find("repeats")->text(), "3");
  EXPECT_EQ(root.find("model")->find("name")->text(), "tiny_llama");
  const TemporaryFolder folder;
  const std::string file = folder.write("printed.yaml", printed.out);
  EXPECT_EQ(print("run", file, {}).out, printed.out);
}

TEST(PrintConfig, OriginNamesTheFileTheOverrideOrTheDefault) {
  const ProgramResult result =
      print("validate", "isolated_arms", {"measure.repeats=2", "--origin"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, ContainsRegex("experiment: generation_benchmark +# [^ ]*"
                                        "isolated_arms.yaml:[0-9]+:[0-9]+\n"));
  EXPECT_THAT(result.out, ContainsRegex("d_model: 64 +# [^ ]*tiny_llama.yaml:[0-9]+:[0-9]+\n"));
  EXPECT_THAT(result.out, ContainsRegex("repeats: 2 +# override 'measure.repeats=2'\n"));
  EXPECT_THAT(result.out, ContainsRegex("seed: 7 +# default\n"));
  EXPECT_THAT(result.out, ContainsRegex("chunk: 0 +# default\n"));
  // Each line says it, and what is printed is a config that says the same.
  std::istringstream lines(result.out);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_THAT(line, ContainsRegex(" # [^ ]")) << "no origin";
  }
  const TemporaryFolder folder;
  const std::string file = folder.write("printed.yaml", result.out);
  const ProgramResult again = run_program({kBinary, "validate", file});
  EXPECT_EQ(again.exit_code, 0) << again.err;
}

TEST(PrintConfig, AConfigStaysValidWithItsDefaultsWrittenOut) {
  for (const char* name : {"equivalence", "generate", "memory_table",
                           "teaching_toy", "work_trace"}) {
    const ProgramResult result = print("run", name, {"--origin"});
    ASSERT_EQ(result.exit_code, 0) << name << "\n" << result.err;
    const TemporaryFolder folder;
    const std::string file = folder.write("printed.yaml", result.out);
    const ProgramResult again = run_program({kBinary, "validate", file});
    EXPECT_EQ(again.exit_code, 0) << name << "\n" << again.err << result.out;
  }
}

TEST(PrintConfig, ADefaultThatTheKindRefusesIsNotWrittenOut) {
  const ProgramResult result = print("run", "decode_speed_tiny", {"--origin"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("row_tokens: 0 "));
  const ConfigNode root = parse_config_text(result.out, "printed.yaml");
  EXPECT_EQ(root.find("runtime")->find("dtype"), nullptr) << "cases.precisions sets it";
}

TEST(PrintConfig, OfASweepItIsTheFileOrOneOfItsCases) {
  const ProgramResult whole = print("run", "sweep_example", {"measure.repeats=2"});
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const ConfigNode root = parse_config_text(whole.out, "printed.yaml");
  EXPECT_EQ(root.find("measure")->find("repeats")->text(), "2");
  EXPECT_NE(root.find("sweep")->find("grid"), nullptr);
  const TemporaryFolder folder;
  const std::string file = folder.write("printed.yaml", whole.out);
  EXPECT_EQ(print("run", file, {}).out, whole.out);
  const ProgramResult one = print("run", "sweep_example", {"--case", "3"});
  ASSERT_EQ(one.exit_code, 0) << one.err;
  const ConfigNode third = parse_config_text(one.out, "printed.yaml");
  EXPECT_EQ(third.find("sweep"), nullptr);
  EXPECT_EQ(third.find("workload")->find("new_tokens")->items().front().text(), "16");
  const ProgramResult beyond = print("run", "sweep_example", {"--case", "6"});
  EXPECT_EQ(beyond.exit_code, 2);
  EXPECT_THAT(beyond.err, HasSubstr("has the cases 0 to 5, got 6"));
  EXPECT_EQ(print("run", "quickstart", {"--case", "0"}).exit_code, 2);
}

TEST(PrintConfig, AnOverrideCannotEndItsComment) {
  const ProgramResult result =
      print("run", "work_trace", {"title=\"a\nb: c\"", "--origin"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const ConfigNode root = parse_config_text(result.out, "printed.yaml");
  EXPECT_EQ(root.find("b"), nullptr);
}

TEST(PrintConfig, OriginAloneIsRefused) {
  const ProgramResult result = run_program({kBinary, "run", "work_trace", "--origin"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("--print-config"));
}

}  // namespace
}  // namespace kvlab

// kvlab validate reports everything at once, and the schema that ships is the one kvlab prints.
#include "kvlab/runtime/config_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kvlab/runtime/json_schema.h"
#include "tests/fixtures/run_config.h"
#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";
const fs::path kSource = KVLAB_SOURCE_DIR;

constexpr const char* kManyMistakes = R"(schema: kvlab/1
experiment: generation_benchmark
question: Is everything reported?
titel: a slip
model: {use: @MODEL@}
workload:
  prompt: {random: 11}
  prompt_tokens: [16, x]
  new_tokens: [16]
  gate_tokens: 1
arms:
  - {name: a, cache: none}
  - {name: b, cache: pagde}
  - {name: c, cache: {type: paged, block_sise: 3, max_blocks: many}}
  - {name: d, cache: 'gqa_shared:kv_heads=7'}
  - {name: e, cache: none, attention: eagre}
  - {name: f, cache: 'gqa_shared:kv_heads=5'}
control: nobody
runtime: {threads: 0, dtype: fp16, chunck: 3}
measure: {repeats: "3", interleave: yess}
)";

std::string many_mistakes() {
  std::string text = kManyMistakes;
  const std::string name = "@MODEL@";
  return text.replace(text.find(name), name.size(), kSource / "configs/models/tiny_llama.yaml");
}

TEST(ConfigCheck, EveryErrorOfAFileIsPrintedWithItsPlaceAndInOrder) {
  const TemporaryFolder folder;
  const std::string file = folder.write("many.yaml", many_mistakes());
  const ProgramResult result = run_program({kBinary, "validate", file});
  EXPECT_EQ(result.exit_code, 2);
  const std::vector<std::pair<std::string, std::string>> wanted = {
      {"4:1", "'titel' is not known"},     {"8:23", "whole number, got 'x'"},
      {"10:16", "from 2 to 65536, got 1"}, {"13:22", "no cache is named 'pagde'"},
      {"14:48", "'block_sise'"},           {"14:63", "whole number, got 'many'"},
      {"15:5", "arm 'd' cannot work"},     {"16:39", "no attention is named 'eagre'"},
      {"17:5", "arm 'f' cannot work"},     {"18:10", "control must name an arm"},
      {"19:20", "from 1 to 1024, got 0"},  {"19:30", "'fp16' is not a choice"},
      {"19:36", "'chunck' is not known"},  {"20:20", "drop the quotes"},
      {"20:37", "true or false, got 'yess'"}};
  std::istringstream lines(result.err);
  std::string line;
  for (const auto& [place, text] : wanted) {
    ASSERT_TRUE(std::getline(lines, line)) << "nothing at " << place << " in\n" << result.err;
    EXPECT_TRUE(line.starts_with(file + ":" + place + ": ")) << line << "\n  wanted " << place;
    EXPECT_THAT(line, HasSubstr(text));
  }
  std::getline(lines, line);
  EXPECT_EQ(line, file + ": " + std::to_string(wanted.size()) + " errors") << result.err;
  EXPECT_FALSE(std::getline(lines, line)) << "more than was wrong: " << line;
}

TEST(ConfigCheck, SeveralFilesAreCheckedAndOneBadOneDecidesTheExitCode) {
  const TemporaryFolder folder;
  const std::string bad = folder.write("bad.yaml", many_mistakes());
  const ProgramResult result = run_program({kBinary, "validate", "quickstart", bad, "work_trace"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.out, HasSubstr("quickstart: ok"));
  EXPECT_THAT(result.out, HasSubstr("work_trace: ok"));
  EXPECT_THAT(result.out, Not(HasSubstr("bad.yaml")));
}

// Each file there holds one mistake, so that more errors than one follow from it.
TEST(ConfigCheck, EveryCaseOfASweepIsCheckedAndTheRefusedOnesSayWhy) {
  const std::string example = (kSource / "configs/experiments/sweep_example.yaml").string();
  const ProgramResult good = run_program({kBinary, "validate", example});
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr(": ok, 6 cases, all of them run\n"));
  const ProgramResult some =
      run_program({kBinary, "validate", example,
                   "sweep.grid={arms.paged.cache.block_size: [4, 0, -1], measure.repeats: [0, 2]}"});
  EXPECT_EQ(some.exit_code, 0) << some.err;
  EXPECT_THAT(some.out, HasSubstr(": ok, 6 cases, 1 of them run, 5 refused\n"));
  EXPECT_THAT(some.err, HasSubstr("refused case 2 (arms.paged.cache.block_size=0, "
                                  "measure.repeats=0):\n"));
  EXPECT_THAT(some.err, HasSubstr("wanted a whole number from 1 to 1000, got 0"));
  const ProgramResult none =
      run_program({kBinary, "validate", example, "sweep.grid={measure.repeats: [0, -1]}"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("none of the 2 cases can run"));
  EXPECT_EQ(none.out, "");
  // A base that only its cases make whole is no mistake.
  const ProgramResult completed =
      run_program({kBinary, "validate", example, "workload.new_tokens=[]"});
  EXPECT_EQ(completed.exit_code, 0) << completed.err;
}

TEST(ConfigCheck, AFileThatIsNotThereDoesNotHideTheErrorsOfTheNext) {
  const std::string good = (kSource / "configs/experiments/quickstart.yaml").string();
  std::string bad;
  for (const auto& entry : fs::directory_iterator(kSource / "tests/fixtures/bad_configs")) {
    const std::string path = entry.path().string();
    if (path.ends_with(".yaml") && (bad.empty() || path < bad)) bad = path;
  }
  for (const std::string& missing : {std::string("/no/such.yaml"), std::string("no_such_name")}) {
    const ProgramResult found = run_program({kBinary, "validate", good, missing, bad});
    EXPECT_EQ(found.exit_code, 2) << found.err;
    EXPECT_THAT(found.out, HasSubstr("quickstart.yaml: ok"));
    EXPECT_THAT(found.err, HasSubstr(missing + ": 1 error"));
    EXPECT_THAT(found.err, HasSubstr(bad + ": 1 error"));
    EXPECT_EQ(run_program({kBinary, "validate", missing, good}).exit_code, 4);
  }
}

TEST(ConfigCheck, NoConsequenceOfAnErrorIsReportedAsAnother) {
  int files = 0;
  for (const auto& entry : fs::directory_iterator(kSource / "tests/fixtures/bad_configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    Registry registry = full_registry();
    std::vector<ConfigProblem> problems;
    try {
      problems = check_experiment(entry.path(), {}, registry);
    } catch (const MissingError&) {
      continue;  // a file that is used and not there ends the reading
    }
    // The weights that this one names are missing as well.
    const bool two = entry.path().filename().string().starts_with("71_");
    EXPECT_EQ(problems.size(), two ? 2u : 1u) << entry.path();
    for (const ConfigProblem& problem : problems) {
      EXPECT_NE(problem.message.find(".yaml:"), std::string::npos) << problem.message;
    }
  }
  EXPECT_GE(files, 100);
}

TEST(ConfigCheck, EveryBuiltInKindTakesPartInTheSchema) {
  const Registry registry = full_registry();
  const auto json = nlohmann::json::parse(experiment_schema(registry));
  for (const std::string name :
       {"conversation", "decode_speed", "equivalence", "generate", "generation_benchmark",
        "memory_table", "quality", "shared_prompt", "work_trace"}) {
    EXPECT_TRUE(json.at("$defs").at("experiment_" + name).contains("additionalProperties"))
        << name << " gives no info.examples, so that slips in its keys go unseen";
  }
}

TEST(ConfigCheck, SlipsInKeysOfConversationsAndSharedPromptsAreFoundByTheSchema) {
  Registry registry = full_registry();
  const std::vector<std::pair<std::string, std::vector<std::string>>> wanted = {
      {"conversation_tiny",
       {"workload.conversation.lines", "workload.new_token", "measure.aaa", "turns"}},
      {"shared_prompt_tiny",
       {"workload.continuation", "workload.gate_token", "measure.planted"}}};
  for (const auto& [name, slips] : wanted) {
    const std::string file = kSource / "configs/experiments" / (name + ".yaml");
    EXPECT_TRUE(check_experiment(file, {}, registry).empty()) << name;
    for (const std::string& slip : slips) {
      const auto problems = check_experiment(file, {"+" + slip + "=3"}, registry);
      ASSERT_EQ(problems.size(), 1u) << name << ", " << slip;
      EXPECT_THAT(problems.front().message,
                  HasSubstr("'" + slip.substr(slip.rfind('.') + 1) + "' is not known"));
    }
  }
}

std::string text_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(ConfigCheck, TheCopiesInConfigsSchemaAreWhatKvlabPrints) {
  const Registry registry = full_registry();
  const char* advice = "; write it anew with tools/check_schema --update";
  EXPECT_TRUE(text_of(kSource / "configs/schema/experiment.json") ==
              experiment_schema(registry)) << "experiment.json" << advice;
  EXPECT_TRUE(text_of(kSource / "configs/schema/model.json") ==
              model_schema(registry)) << "model.json" << advice;
  EXPECT_TRUE(text_of(kSource / "configs/schema/cache.json") ==
              cache_schema(registry)) << "cache.json" << advice;
}

}  // namespace
}  // namespace kvlab::test

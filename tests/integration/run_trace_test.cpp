// measure.trace: when each part of each layer ran, from one more run of each arm.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/fixtures/run_config.h"

namespace kvlab {
namespace {

using Json = nlohmann::json;
using test::kTinyModel;

constexpr int64_t kLayers = 2, kNewTokens = 6;

std::string benchmark(const std::string& more) {
  return "schema: kvlab/1\nexperiment: generation_benchmark\nquestion: q\nmodel: " + kTinyModel +
         "\nworkload: {prompt: {random: 3}, prompt_tokens: [4, 9], new_tokens: [6], "
         "gate_tokens: 8}\n"
         "arms: [{name: none, cache: none}, {name: paged, cache: paged}]\ncontrol: none\n"
         "runtime: {threads: 1}\n" + more;
}

// Complete events of a category.
int64_t count_events(const Json& trace, const std::string& category) {
  int64_t count = 0;
  for (const Json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "X" && event.at("cat") == category) ++count;
  }
  return count;
}

TEST(RunTrace, EachArmHasOneBesideItsFiguresInOneProcessAndInMany) {
  for (const char* isolation : {"none", "process"}) {
    const test::TemporaryFolder folder;
    const std::string config = folder.write(
        "config.yaml", benchmark(std::string("isolation: ") + isolation +
                                 "\nmeasure: {repeats: 2, warmup: 0, trace: true}\n"));
    Registry registry = test::full_registry();
    LoadedExperiment loaded = load_experiment(config, {}, registry);
    RunOptions options;
    options.folder = folder.file("run");
    std::filesystem::create_directory(options.folder);
    options.program = KVLAB_BINARY_DIR "/bin/kvlab";
    std::ostringstream out, log;
    ASSERT_EQ(run_experiment(loaded, registry, options, out, log), 0) << log.str();
    const std::string report = test::read_whole(options.folder + "/report/report.md");
    for (const std::string arm : {"none", "paged"}) {
      const std::string file = "trace/" + arm + ".json";
      const Json trace = Json::parse(test::read_whole(options.folder + "/" + file));
      // The prompt is one step, and the last token is never fed.
      EXPECT_EQ(count_events(trace, "step"), kNewTokens) << isolation << " " << arm;
      EXPECT_EQ(count_events(trace, "layer"), kLayers * kNewTokens) << isolation << " " << arm;
      EXPECT_NE(report.find("../" + file), std::string::npos) << isolation << " " << arm;
    }
    EXPECT_FALSE(std::filesystem::exists(options.folder + "/trace/none_again.json"))
        << "the second control is the first";
  }
}

TEST(RunTrace, IsNotWrittenUnasked) {
  const test::TemporaryFolder folder;
  const test::FinishedRun run = test::run_config(
      folder, folder.write("config.yaml", benchmark("measure: {repeats: 1, warmup: 0}\n")));
  EXPECT_EQ(run.code, 0) << run.log;
  EXPECT_FALSE(std::filesystem::exists(run.folder + "/trace"));
}

TEST(RunTrace, KindsThatHaveNoneRefuseTheKey) {
  const test::TemporaryFolder folder;
  const std::string turns = folder.write("turns.jsonl", R"({"turns": [{"ids": [1, 2]}, {"ids": [3]}]})"
                                                        "\n");
  const std::vector<std::pair<std::string, std::string>> kinds = {
      {"conversation", "{conversation: {jsonl: " + turns + "}, new_tokens: 2}"},
      {"shared_prompt", "{prompt: {ids: [1, 2, 3]}, continuations: 2, new_tokens: 2}"}};
  for (const auto& [kind, workload] : kinds) {
    const std::string config = folder.write(
        kind + ".yaml", "schema: kvlab/1\nexperiment: " + kind + "\nquestion: q\nmodel: " +
                            kTinyModel + "\nworkload: " + workload +
                            "\narms: [{name: none, cache: none}]\ncontrol: none\n"
                            "measure: {trace: true}\n");
    const std::string message = test::refusal(config);
    EXPECT_NE(message.find("only generation_benchmark writes a timeline"), std::string::npos)
        << message;
  }
}

}  // namespace
}  // namespace kvlab

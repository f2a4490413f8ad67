#include <gtest/gtest.h>

#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using nlohmann::json;

std::string config(const std::string& workload, const std::string& arms,
                   const std::string& runtime = "{threads: 1}") {
  return "schema: kvlab/1\nexperiment: generate\nquestion: What comes out?\nmodel: " + kTinyModel +
         "\nworkload: " + workload + "\narms: [" + arms + "]\nruntime: " + runtime + "\n";
}

const std::string kArms = "{name: none, cache: none}, {name: paged, cache: 'paged:block_size=4'}";

TEST(GenerateExperiment, WritesTheSameTokensWithAndWithoutACache) {
  const TemporaryFolder folder;
  const std::string workload =
      "{prompt: [{ids: [5, 5, 9]}, {random: 4, tokens: 7}], new_tokens: 12, stop: false}";
  const FinishedRun run = run_config(folder, folder.write("run.yaml", config(workload, kArms)));
  EXPECT_EQ(run.code, 0) << run.log;
  expect_run_files(run);
  ASSERT_EQ(run.samples.size(), 4u);
  for (int row = 0; row < 2; ++row) {
    const json none = run.sample({{"arm", "none"}, {"row", row}});
    const json paged = run.sample({{"arm", "paged"}, {"row", row}});
    EXPECT_EQ(none.at("tokens"), paged.at("tokens"));
    EXPECT_EQ(none.at("tokens").size(), 12u);
    EXPECT_EQ(none.at("stopped"), "length");
  }
  EXPECT_EQ(run.sample({{"arm", "none"}}).at("bytes").at("payload"), 0);
  EXPECT_GT(run.sample({{"arm", "paged"}}).at("bytes").at("payload"), 0);
  EXPECT_NE(run.out.find("[paged, row 1]"), std::string::npos) << run.out;
}

TEST(GenerateExperiment, RepeatsFromItsResolvedConfig) {
  const TemporaryFolder folder;
  const std::string workload =
      "{prompt: {ids: [5, 7, 9]}, new_tokens: 10, sampler: {type: sample, temperature: 1.5, seed: "
      "8}}";
  const FinishedRun first = run_config(folder, folder.write("run.yaml", config(workload, kArms)));
  const FinishedRun again = run_config(folder, first.folder + "/config/resolved.yaml", {}, "again");
  EXPECT_EQ(again.code, 0) << again.log;
  ASSERT_EQ(first.samples.size(), again.samples.size());
  for (size_t i = 0; i < first.samples.size(); ++i) {
    EXPECT_EQ(first.samples[i].at("tokens"), again.samples[i].at("tokens"));
    EXPECT_EQ(first.samples[i].at("bytes"), again.samples[i].at("bytes"));
    EXPECT_EQ(first.samples[i].at("work"), again.samples[i].at("work"));
  }
}

TEST(GenerateExperiment, StopsAtAStopTokenAndAtTheContext) {
  const TemporaryFolder folder;
  const std::string arms = "{name: paged, cache: paged}";
  const FinishedRun plain = run_config(
      folder, folder.write("plain.yaml", config("{prompt: {ids: [5]}, new_tokens: 6}", arms)), {},
      "plain");
  const json tokens = plain.sample({{"arm", "paged"}}).at("tokens");
  const FinishedRun stopped = run_config(
      folder,
      folder.write("stop.yaml", config("{prompt: {ids: [5]}, new_tokens: 6, stop_tokens: [" +
                                           tokens.at(0).dump() + "]}",
                                       arms)),
      {}, "stopped");
  const json sample = stopped.sample({{"arm", "paged"}});
  EXPECT_EQ(sample.at("stopped"), "stop_token");
  EXPECT_EQ(sample.at("tokens"), json({tokens.at(0)}));
  const FinishedRun context = run_config(
      folder,
      folder.write("context.yaml", config("{prompt: {random: 1, tokens: 250}, new_tokens: 20}",
                                          arms, "{threads: 1, overflow: stop}")),
      {}, "context");
  EXPECT_EQ(context.sample({{"arm", "paged"}}).at("stopped"), "context");
  EXPECT_EQ(context.code, 0) << context.log;
}

TEST(GenerateExperiment, AnArmWithoutRoomFailsAndTheOthersGoOn) {
  const TemporaryFolder folder;
  const std::string arms =
      "{name: small, cache: 'preallocated:capacity=4'}, {name: none, cache: none}";
  const FinishedRun run = run_config(
      folder, folder.write("run.yaml", config("{prompt: {ids: [5]}, new_tokens: 9}", arms)));
  EXPECT_EQ(run.code, 1);
  EXPECT_TRUE(run.sample({{"arm", "small"}}).is_null());
  EXPECT_EQ(run.sample({{"arm", "none"}}).at("tokens").size(), 9u);
  const std::string markdown = read_whole(run.folder + "/report/report.md");
  EXPECT_NE(markdown.find("arm small"), std::string::npos) << markdown;
}

TEST(GenerateExperiment, RefusesWhatCanBeSeenWithoutWeights) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& workload, const std::string& arms) {
    return refusal(folder.write("bad.yaml", config(workload, arms)));
  };
  EXPECT_NE(
      message("{prompt: {text: Once}, new_tokens: 4}", kArms)
          .find("bad.yaml:5:27: workload.prompt.text: model 'tiny' has no tokenizer"),
      std::string::npos);
  EXPECT_NE(message("{prompt: {ids: [5, 64]}, new_tokens: 4}", kArms)
                .find("a token must lie inside the vocabulary of 64 tokens, got 64"),
            std::string::npos);
  EXPECT_NE(message("{prompt: {ids: [5], random: 3}, new_tokens: 4}", kArms)
                .find("a prompt is one of text, file, jsonl, ids and random, got 2 of them"),
            std::string::npos);
  EXPECT_NE(
      message("{prompt: {ids: [5]}, new_tokens: 300}", kArms).find("the model's context is 256"),
      std::string::npos);
  EXPECT_NE(message("{prompt: {ids: [5]}, new_tokens: 4}", "{name: x, cache: pagde}")
                .find("Did you mean 'paged'?"),
            std::string::npos);
  const std::string both = message(
      "{prompt: {ids: [5]}, new_tokens: 4}",
      "{name: shared, cache: 'gqa_shared:kv_heads=3'}, {name: odd, cache: 'gqa_shared:kv_heads=5'}");
  EXPECT_NE(both.find("arm 'shared'"), std::string::npos) << both;
  EXPECT_NE(both.find("arm 'odd'"), std::string::npos) << both;
}

}  // namespace

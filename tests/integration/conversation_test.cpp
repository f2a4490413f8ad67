#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using nlohmann::json;

std::string config(const std::string& arms, const std::string& new_tokens = "6") {
  return "schema: kvlab/1\nexperiment: conversation\nquestion: What is fed again?\nmodel: " +
         kTinyModel +
         "\nworkload: {conversation: {jsonl: turns.jsonl, line: 2}, new_tokens: " + new_tokens +
         ", sampler: {type: sample, temperature: 1.5, seed: 3}}\narms: [" + arms +
         "]\ncontrol: preallocated\nruntime: {threads: 1, chunk: 4}\n"
         "measure: {repeats: 2, warmup: 0, seed: 7}\n";
}

const std::string kTurns =
    "{\"turns\": [[1, 2]]}\n"
    "{\"turns\": [[5, 9, 9, 1, 7, 30, 2], [11, 12, 13], [40, 41, 42, 43, 44]]}\n";

const std::string kArms =
    "{name: preallocated, cache: preallocated}, {name: paged, cache: 'paged:block_size=4'}, "
    "{name: none, cache: none}, {name: ring, cache: 'ring:window=8'}";

TEST(ConversationExperiment, FeedsOnlyWhatIsNewAndGivesTheSameAnswers) {
  const TemporaryFolder folder;
  folder.write("turns.jsonl", kTurns);
  const FinishedRun run = run_config(folder, folder.write("run.yaml", config(kArms)));
  EXPECT_EQ(run.code, 0) << run.log;
  expect_run_files(run);
  EXPECT_EQ(run.samples.size(), 4u * 2u * 2u * 3u);
  const auto turn = [&](const char* arm, const char* mode, int index) {
    return run.sample({{"arm", arm}, {"mode", mode}, {"turn", index}});
  };
  for (const char* arm : {"preallocated", "paged"}) {
    // The last token of each answer is fed with the next turn.
    const int fed[] = {7 + 5, 1 + 3 + 5, 1 + 5 + 5}, all[] = {7 + 5, 16 + 5, 27 + 5};
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(turn(arm, "kept", i).at("work").at("token_forwards"), fed[i]);
      EXPECT_EQ(turn(arm, "refed", i).at("work").at("token_forwards"), all[i]);
      EXPECT_EQ(turn(arm, "kept", i).at("tokens"), turn("preallocated", "refed", i).at("tokens"));
      EXPECT_EQ(turn(arm, "kept", i).at("bytes").at("payload"),
                turn(arm, "refed", i).at("bytes").at("payload"));
    }
    EXPECT_TRUE(run.check(arm, "answers of the control fed again, cache kept").at("passed"));
  }
  EXPECT_EQ(turn("none", "kept", 2).at("tokens"), turn("preallocated", "refed", 2).at("tokens"));
  EXPECT_TRUE(run.check("ring", "answers of the control fed again, cache kept").is_null());
  EXPECT_TRUE(run.check("ring", "token-forwards as predicted, kept").at("passed"));
}

TEST(ConversationExperiment, RepeatsFromItsResolvedConfig) {
  const TemporaryFolder folder;
  folder.write("turns.jsonl", kTurns);
  const FinishedRun first = run_config(
      folder, folder.write("run.yaml", config("{name: preallocated, cache: preallocated}")));
  const FinishedRun again = run_config(folder, first.folder + "/config/resolved.yaml", {}, "again");
  ASSERT_EQ(again.code, 0) << again.log;
  EXPECT_EQ(first.sample({{"turn", 2}, {"mode", "kept"}}).at("tokens"),
            again.sample({{"turn", 2}, {"mode", "kept"}}).at("tokens"));
}

TEST(ConversationExperiment, RefusesAConversationThatOutgrowsTheContext) {
  const TemporaryFolder folder;
  folder.write("turns.jsonl", kTurns);
  EXPECT_NE(
      refusal(folder.write("bad.yaml", config(kArms, "100"))).find("the model's context is 256"),
      std::string::npos);
}

}  // namespace

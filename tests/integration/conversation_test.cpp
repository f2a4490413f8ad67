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
  // Arms with the second control, modes, blocks, turns.
  EXPECT_EQ(run.samples.size(), 5u * 2u * 2u * 3u);
  EXPECT_TRUE(run.samples.front().at("flags").contains("contended"));
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

// Every step of the refed control takes much longer than it need, which nothing but the clock shows.
TEST(ConversationExperiment, GivesVerdictsByTheCommonRuleBesideTheNoise) {
  const TemporaryFolder folder;
  folder.write("turns.jsonl", kTurns);
  const std::string arms =
      "{name: preallocated, cache: preallocated}, {name: slow, cache: preallocated}";
  std::string text = config(arms);
  const std::string blocks = "repeats: 2";
  text.replace(text.find(blocks), blocks.size(), "repeats: 6, planted_slowdown: {slow: 8}");
  const FinishedRun run = run_config(folder, folder.write("run.yaml", text));
  EXPECT_EQ(run.code, 0) << run.log;
  const auto metric = [&](const char* arm, const char* name, const json& group) {
    for (const json& entry : run.summary.at("metrics")) {
      if (entry.at("arm") == arm && entry.at("metric") == name && entry.at("group") == group) {
        return entry;
      }
    }
    return json();
  };
  const json ratio = metric("slow", "speed_ratio", {{"mode", "kept"}});
  EXPECT_LT(ratio.at("value").get<double>(), 0.6) << "8 times as long was planted";
  EXPECT_LT(ratio.at("ci_high").get<double>(), 1) << ratio;
  EXPECT_NE(ratio.at("verdict"), "faster");
  EXPECT_TRUE(metric("preallocated", "speed_ratio", {{"mode", "kept"}}).is_null());
  EXPECT_FALSE(
      metric("slow", "keeping_speedup", {{"mode", "kept"}, {"turn", "3"}}).is_null());
  const std::string markdown = read_whole(run.folder + "/report/report.md");
  for (const char* part :
       {"slow kept is 0.", "preallocated kept is ", "by speed to the first token of turn 3: ",
        "Noise: preallocated kept measured a second time is ", "it holds as many bytes",
        // Two arms times three turns, and the slow one in both modes.
        "8 comparison(s) were made. An arm is called faster", "A sample is flagged where"}) {
    EXPECT_NE(markdown.find(part), std::string::npos) << part << "\n" << markdown;
  }
}

TEST(ConversationExperiment, WithoutASecondControlThereIsNoNoise) {
  const TemporaryFolder folder;
  folder.write("turns.jsonl", kTurns);
  std::string text = config("{name: preallocated, cache: preallocated}");
  const std::string blocks = "repeats: 2";
  text.replace(text.find(blocks), blocks.size(), "repeats: 2, aa: false");
  const FinishedRun run = run_config(folder, folder.write("run.yaml", text));
  EXPECT_EQ(run.code, 0) << run.log;
  EXPECT_EQ(run.samples.size(), 1u * 2u * 2u * 3u);
  EXPECT_EQ(read_whole(run.folder + "/report/report.md").find("Noise:"), std::string::npos);
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

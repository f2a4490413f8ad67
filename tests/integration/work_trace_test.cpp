#include <gtest/gtest.h>

#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using nlohmann::json;

std::string config(const std::string& arms, const std::string& rest) {
  return "schema: kvlab/1\nexperiment: work_trace\nquestion: What is computed?\nmodel: " +
         kTinyModel + "\nworkload: {prompt: {ids: [5, 9, 2]}}\narms: [" + arms +
         "]\ncontrol: none\nruntime: {threads: 1}\n" + rest;
}

const std::string kArms =
    "{name: none, cache: none}, {name: preallocated, cache: preallocated}, "
    "{name: paged, cache: 'paged:block_size=2'}";

TEST(WorkTrace, ThirdStepComputesOneAndReusesTwoWithACache) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(folder, folder.write("trace.yaml", config(kArms, "")));
  EXPECT_EQ(run.code, 0) << run.log;
  expect_run_files(run);
  for (int layer = 0; layer < 2; ++layer) {
    for (const char* arm : {"preallocated", "paged"}) {
      const json third = run.sample({{"arm", arm}, {"step", 3}, {"layer", layer}});
      ASSERT_FALSE(third.is_null()) << arm << layer;
      EXPECT_EQ(third.at("computed_keys"), json({2}));
      EXPECT_EQ(third.at("computed_values"), json({2}));
      EXPECT_EQ(third.at("reused_keys"), json({0, 1}));
      EXPECT_EQ(third.at("reused_values"), json({0, 1}));
    }
    const json third = run.sample({{"arm", "none"}, {"step", 3}, {"layer", layer}});
    EXPECT_EQ(third.at("computed_keys"), json({0, 1, 2}));
    EXPECT_EQ(third.at("reused_keys"), json::array());
  }
  for (const json& check : run.summary.at("checks")) EXPECT_EQ(check.at("passed"), true) << check;
  EXPECT_NE(run.out.find("preallocated computes 1 and reuses 2"), std::string::npos) << run.out;
}

TEST(WorkTrace, CountsThePublishedTokenForwards) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(
      folder,
      folder.write("trace.yaml", config(kArms, "counters: {prompt_tokens: 4, new_tokens: 200}\n")));
  EXPECT_EQ(run.code, 0) << run.log;
  const auto counted = [&](const char* arm) {
    return run.sample({{"case", "counters"}, {"arm", arm}}).at("token_forwards");
  };
  EXPECT_EQ(counted("none"), 20700);
  EXPECT_EQ(counted("preallocated"), 203);
  EXPECT_EQ(counted("paged"), 203);
  EXPECT_EQ(run.check("none", "token-forwards as predicted").at("passed"), true);
}

TEST(WorkTrace, KeepsOtherArmsWhenOneRunsOutOfRoom) {
  const TemporaryFolder folder;
  const std::string arms =
      "{name: none, cache: none}, "
      "{name: small, cache: 'preallocated:capacity=2'}";
  const FinishedRun run = run_config(folder, folder.write("trace.yaml", config(arms, "")));
  EXPECT_EQ(run.code, 1);
  EXPECT_EQ(run.run.at("status"), "failed");
  EXPECT_FALSE(run.sample({{"arm", "none"}, {"step", 3}}).is_null());
  EXPECT_NE(run.log.find("trace of arm small failed"), std::string::npos) << run.log;
}

TEST(WorkTrace, RefusesTokensOutsideTheVocabularyAndCountersBeyondTheContext) {
  const TemporaryFolder folder;
  std::string text = config(kArms, "");
  text.replace(text.find("[5, 9, 2]"), 9, "[5, 64]");
  const std::string vocabulary = refusal(folder.write("ids.yaml", text));
  EXPECT_NE(vocabulary.find("a token must lie inside the vocabulary of 64 tokens, got 64"),
            std::string::npos)
      << vocabulary;
  const std::string counters = refusal(folder.write(
      "count.yaml", config(kArms, "counters: {prompt_tokens: 100, new_tokens: 200}\n")));
  EXPECT_NE(counters.find("count.yaml:9:"), std::string::npos) << counters;
  EXPECT_NE(counters.find("do not fit the context of 256"), std::string::npos) << counters;
}

}  // namespace

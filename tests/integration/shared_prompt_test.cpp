#include <set>

#include "kvlab/cache/forwarding_cache.h"
#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using nlohmann::json;

constexpr int kPrompt = 30, kRows = 5, kNew = 12;

const std::string kArms =
    "{name: preallocated, cache: preallocated}, {name: concat, cache: concat}, "
    "{name: paged, cache: 'paged:block_size=4'}, {name: none, cache: none}, "
    "{name: int8, cache: int8}";

std::string config(const std::string& arms = kArms,
                   const std::string& sampler = "{type: sample, temperature: 1.5, seed: 8}") {
  return "schema: kvlab/1\nexperiment: shared_prompt\nquestion: What is shared?\nmodel: " +
         kTinyModel +
         "\nworkload: {prompt: {random: 6, tokens: 30}, continuations: 5, new_tokens: "
         "12, sampler: " +
         sampler + "}\narms: [" + arms +
         "]\ncontrol: preallocated\nruntime: {threads: 1, chunk: 7}\n"
         "measure: {repeats: 2, warmup: 0, seed: 7}\n";
}

json sample(const FinishedRun& run, const std::string& arm, const std::string& mode) {
  return run.sample({{"arm", arm}, {"mode", mode}, {"block", 0}});
}

TEST(SharedPromptExperiment, ForkedRowsSayWhatRowsSayThatFeedThePromptThemselves) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(folder, folder.write("run.yaml", config()));
  EXPECT_EQ(run.code, 0) << run.log;
  expect_run_files(run);
  // Arms with the second control, modes, blocks.
  EXPECT_EQ(run.samples.size(), 6u * 2u * 2u);
  EXPECT_TRUE(run.samples.front().at("flags").contains("contended"));
  const json wanted = sample(run, "preallocated", "prefill").at("tokens");
  EXPECT_EQ(std::set<json>(wanted.begin(), wanted.end()).size(), static_cast<size_t>(kRows))
      << "rows must draw different texts to show anything";
  for (const char* arm : {"preallocated", "concat", "paged", "none"}) {
    EXPECT_EQ(sample(run, arm, "fork").at("tokens"), wanted) << arm;
    EXPECT_TRUE(run.check(arm, "forked rows say what rows say that feed the prompt themselves")
                    .at("passed"));
    EXPECT_TRUE(run.check(arm, "token-forwards as predicted, fork").at("passed"));
  }
  // Approximate: shown, not judged.
  EXPECT_TRUE(
      run.check("int8", "forked rows say what rows say that feed the prompt themselves").is_null());
}

TEST(SharedPromptExperiment, OnlySharedBlocksSaveMemory) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(folder, folder.write("run.yaml", config()));
  const auto bytes = [&](const char* arm, const char* mode, const char* what) {
    return sample(run, arm, mode).at("bytes").at(what).get<int64_t>();
  };
  const auto work = [&](const char* arm, const char* mode, const char* what) {
    return sample(run, arm, mode).at("work").at(what).get<int64_t>();
  };
  constexpr int64_t kTokenBytes = 2 * 2 * (8 + 8) * 4;  // layers, KV heads, K and V, fp32
  constexpr int64_t kEach = kPrompt + kNew - 1;
  EXPECT_EQ(bytes("preallocated", "fork", "payload"), kRows * kEach * kTokenBytes);
  EXPECT_EQ(bytes("preallocated", "fork", "payload"), bytes("preallocated", "prefill", "payload"));
  EXPECT_EQ(bytes("paged", "prefill", "payload"), kRows * kEach * kTokenBytes);
  // 28 of the prompt's 30 tokens fill blocks of 4 and stay shared; two are copied on write.
  EXPECT_EQ(bytes("paged", "fork", "payload"), (28 + kRows * (kEach - 28)) * kTokenBytes);
  EXPECT_LT(3 * bytes("paged", "fork", "peak"), 2 * bytes("preallocated", "fork", "peak"));
  EXPECT_EQ(work("paged", "fork", "fork_bytes_moved"), 0);
  EXPECT_EQ(work("paged", "fork", "bytes_moved"), (kRows - 1) * 2 * kTokenBytes);
  EXPECT_EQ(work("preallocated", "fork", "fork_bytes_moved"), (kRows - 1) * kPrompt * kTokenBytes);
  EXPECT_EQ(work("preallocated", "fork", "token_forwards"), kPrompt + kRows * (kNew - 1));
  EXPECT_EQ(work("preallocated", "prefill", "token_forwards"), kRows * kEach);
}

TEST(SharedPromptExperiment, GivesVerdictsByTheCommonRuleBesideTheNoise) {
  const TemporaryFolder folder;
  std::string text = config(
      "{name: preallocated, cache: preallocated}, {name: slow, cache: 'paged:block_size=4'}");
  const std::string blocks = "repeats: 2";
  text.replace(text.find(blocks), blocks.size(), "repeats: 6, planted_slowdown: {slow: 8}");
  const FinishedRun run = run_config(folder, folder.write("run.yaml", text));
  EXPECT_EQ(run.code, 0) << run.log;
  const auto metric = [&](const char* arm, const char* name, const char* mode) {
    for (const json& entry : run.summary.at("metrics")) {
      if (entry.at("arm") == arm && entry.at("metric") == name &&
          entry.at("group").at("mode") == mode) {
        return entry;
      }
    }
    return json();
  };
  for (const char* mode : {"fork", "prefill"}) {
    const json ratio = metric("slow", "speed_ratio", mode);
    EXPECT_LT(ratio.at("value").get<double>(), 0.6) << "8 times as long was planted";
    EXPECT_LT(ratio.at("ci_high").get<double>(), 1) << ratio;
    EXPECT_NE(ratio.at("verdict"), "faster");
  }
  EXPECT_FALSE(metric("preallocated", "fork_speedup", "fork").is_null());
  EXPECT_TRUE(metric("preallocated", "speed_ratio", "fork").is_null());
  const std::string markdown = read_whole(run.folder + "/report/report.md");
  for (const char* part :
       {"slow forked is ", " of itself prefilled by speed to the first token of all rows: ",
        " of preallocated forked by tokens/s end to end: ", "fewer bytes at its peak",
        "Noise: preallocated forked measured a second time is ",
        // Each arm's fork, and the other arm in both modes.
        "4 comparison(s) were made. An arm is called faster", "A sample is flagged where"}) {
    EXPECT_NE(markdown.find(part), std::string::npos) << part << "\n" << markdown;
  }
}

// Forks into every row what row 0 held one token ago; the engine then feeds that token again.
class ForgetfulFork final : public kvlab::ForwardingCache {
 public:
  explicit ForgetfulFork(std::unique_ptr<kvlab::KVCache> inner)
      : ForwardingCache("forgetful", std::move(inner)) {}
  void fork(int from, int to) override {
    ForwardingCache::fork(from, to);
    truncate(to, length(to) - 1);
  }
};

void add_faulty_caches(kvlab::Registry& registry) {
  kvlab::CacheEntry forgetful = registry.cache("paged", "");
  forgetful.info.name = "forgetful";
  forgetful.create = [inner = forgetful.create](const kvlab::CacheRequest& request,
                                                kvlab::StorageArena& arena) {
    return std::make_unique<ForgetfulFork>(inner(request, arena));
  };
  registry.add(std::move(forgetful));
  // A window behind the traits of an exact cache.
  kvlab::CacheEntry liar = registry.cache("ring", "");
  liar.info.name = "liar";
  liar.traits = [honest = liar.traits](const kvlab::CacheRequest& request) {
    kvlab::CacheTraits traits = honest(request);
    traits.exact = true;
    return traits;
  };
  registry.add(std::move(liar));
  kvlab::CacheEntry lonely = registry.cache("paged", "");
  lonely.info.name = "lonely";
  lonely.traits = [honest = lonely.traits](const kvlab::CacheRequest& request) {
    kvlab::CacheTraits traits = honest(request);
    traits.forks = false;
    return traits;
  };
  registry.add(std::move(lonely));
}

TEST(SharedPromptExperiment, NoticesAForkThatLosesATokenAndACacheThatForgets) {
  const TemporaryFolder folder;
  const std::string arms =
      "{name: preallocated, cache: preallocated}, {name: forgetful, cache: forgetful}, "
      "{name: liar, cache: 'liar:window=8'}";
  const FinishedRun run =
      run_config(folder, folder.write("run.yaml", config(arms)), add_faulty_caches);
  EXPECT_EQ(run.code, 1);
  EXPECT_EQ(run.check("forgetful", "token-forwards as predicted, fork").at("passed"), false);
  EXPECT_EQ(run.check("forgetful", "token-forwards as predicted, prefill").at("passed"), true);
  EXPECT_EQ(run.check("liar", "forked rows say what the control says").at("passed"), false);
  for (const json& entry : run.summary.at("metrics")) {
    EXPECT_FALSE(entry.at("arm") == "liar" && entry.at("timed") == true)
        << "a speed without equality: " << entry;
  }
}

TEST(SharedPromptExperiment, RefusesWhatCannotBe) {
  const TemporaryFolder folder;
  EXPECT_NE(refusal(folder.write("bad.yaml", config(kArms, "{type: greedy}")))
                .find("greedy continuations of one prompt are all the same"),
            std::string::npos);
  kvlab::Registry registry = full_registry(add_faulty_caches);
  const std::string arms =
      "{name: preallocated, cache: preallocated}, {name: alone, cache: lonely}";
  try {
    kvlab::load_experiment(folder.write("bad.yaml", config(arms)), {}, registry);
    ADD_FAILURE() << "a cache that does not fork was taken";
  } catch (const std::exception& error) {
    EXPECT_NE(std::string(error.what()).find("arm 'alone': cache 'lonely' does not fork"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace

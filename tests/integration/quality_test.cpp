#include <cmath>

#include "kvlab/runtime/bootstrap.h"
#include "kvlab/runtime/rates.h"
#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using nlohmann::json;

const std::string kArms =
    "{name: preallocated, cache: preallocated}, {name: none, cache: none}, "
    "{name: paged, cache: 'paged:block_size=4'}, "
    "{name: bf16, cache: preallocated, cache_dtype: bf16}, {name: int8, cache: int8}, "
    "{name: ring, cache: 'ring:window=16'}";

std::string config(const std::string& workload, const std::string& arms = kArms,
                   const std::string& control = "preallocated") {
  return "schema: kvlab/1\nexperiment: quality\nquestion: What is lost?\nmodel: " + kTinyModel +
         "\nworkload: " + workload + "\narms: [" + arms + "]\ncontrol: " + control +
         "\nruntime: {threads: 1, chunk: 4}\n";
}

const std::string kWorkload =
    "{text: {random: 5, tokens: 900}, documents: 12, document_tokens: 64, first_bucket: 8, seed: "
    "3}";

json metric(const FinishedRun& run, const std::string& arm, const std::string& name,
            const json& group = json::object()) {
  for (const auto& entry : run.summary.at("metrics")) {
    if (entry.at("arm") == arm && entry.at("metric") == name &&
        entry.value("group", json::object()) == group) {
      return entry;
    }
  }
  return nullptr;
}

TEST(QualityExperiment, ExactCachesAreEqualAndOthersShowTheirDistance) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(folder, folder.write("run.yaml", config(kWorkload)));
  EXPECT_EQ(run.code, 0) << run.log;
  expect_run_files(run);
  EXPECT_EQ(run.samples.size(), 6u * 12u);
  for (const char* arm : {"none", "paged"}) {
    EXPECT_TRUE(run.check(arm, "equal to the control, tolerance 1e-05").at("passed")) << arm;
    EXPECT_EQ(metric(run, arm, "top1").at("value"), 1.0) << arm;
  }
  const auto kl = [&](const char* arm) { return metric(run, arm, "kl").at("value").get<double>(); };
  EXPECT_LT(kl("paged"), 1e-10);
  EXPECT_GT(kl("bf16"), 100 * kl("paged"));
  EXPECT_GT(kl("int8"), kl("bf16"));
  EXPECT_GT(kl("ring"), 100 * kl("int8"));
  EXPECT_TRUE(run.check("ring", "equal to the control, tolerance 1e-05").is_null());
  const json ring = metric(run, "ring", "kl");
  EXPECT_LT(ring.at("ci_low").get<double>(), kl("ring"));
  EXPECT_GT(ring.at("ci_high").get<double>(), kl("ring"));
  EXPECT_EQ(ring.at("n"), 12);
  EXPECT_EQ(ring.at("timed"), false);
}

TEST(QualityExperiment, AWindowLosesNothingBeforeItIsFull) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(folder, folder.write("run.yaml", config(kWorkload)));
  const auto change = [&](const char* positions) {
    return metric(run, "ring", "nll_change", {{"positions", positions}}).at("value").get<double>();
  };
  EXPECT_LT(std::abs(change("0-7")), 1e-5);
  EXPECT_LT(std::abs(change("8-15")), 1e-5);
  EXPECT_GT(std::abs(change("16-31")) + std::abs(change("32-62")), 1e-4);
}

TEST(QualityExperiment, CountsEveryTokenWithANextOneAndTheBytesHeld) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(folder, folder.write("run.yaml", config(kWorkload)));
  const json sample = run.sample({{"arm", "int8"}, {"document", 3}});
  EXPECT_EQ(sample.at("tokens"), 63);
  int64_t tokens = 0;
  double kl = 0;
  for (const auto& bucket : sample.at("buckets")) {
    tokens += bucket.at("tokens").get<int64_t>();
    kl += bucket.at("kl_sum").get<double>();
  }
  EXPECT_EQ(tokens, 63);
  EXPECT_NEAR(kl, sample.at("kl_sum").get<double>(), 1e-12);
  // 2 layers, 2 KV heads, K and V of 8: a code each and a scale of 4 bytes per head.
  EXPECT_EQ(sample.at("bytes").at("payload"), 64 * 2 * 2 * 2 * 8);
  EXPECT_EQ(sample.at("bytes").at("scales"), 64 * 2 * 2 * 2 * 4);
  EXPECT_EQ(metric(run, "int8", "bits_per_number").at("value"), 8 + 32.0 / 8);
  EXPECT_EQ(metric(run, "bf16", "bits_per_number").at("value"), 16);
  EXPECT_TRUE(metric(run, "none", "bits_per_number").is_null());
}

TEST(QualityExperiment, IntervalsAreTheFrameworksDrawnByDocument) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(folder, folder.write("run.yaml", config(kWorkload)));
  std::vector<double> divergence, tokens;
  int64_t agreed = 0, all = 0;
  for (const json& sample : run.samples) {
    if (sample.at("arm") != "ring") continue;
    divergence.push_back(sample.at("kl_sum").get<double>());
    tokens.push_back(sample.at("tokens").get<double>());
    agreed += sample.at("agreed").get<int64_t>();
    all += sample.at("tokens").get<int64_t>();
  }
  ASSERT_EQ(divergence.size(), 12u);
  kvlab::BootstrapOptions options;
  options.seed = 3;
  const kvlab::BootstrapInterval wanted =
      kvlab::ratio_of_sums_bootstrap(divergence, tokens, options);
  const json kl = metric(run, "ring", "kl");
  EXPECT_NEAR(kl.at("value").get<double>(), wanted.estimate, 1e-12);
  EXPECT_NEAR(kl.at("ci_low").get<double>(), wanted.low.value(), 1e-12);
  EXPECT_NEAR(kl.at("ci_high").get<double>(), wanted.high.value(), 1e-12);
  const kvlab::Rate share = kvlab::wilson_interval(agreed, all);
  EXPECT_NEAR(metric(run, "ring", "top1").at("ci_low").get<double>(), share.low, 1e-12);
}

TEST(QualityExperiment, GivesTheSameSummaryFromItsResolvedConfig) {
  const TemporaryFolder folder;
  const FinishedRun first = run_config(folder, folder.write("run.yaml", config(kWorkload)));
  const FinishedRun again = run_config(folder, first.folder + "/config/resolved.yaml", {}, "again");
  EXPECT_EQ(first.summary.dump(), again.summary.dump());
}

TEST(QualityExperiment, DocumentsLieWhereTheyAreAskedForAndDoNotOverlap) {
  const TemporaryFolder folder;
  const std::string arms = "{name: a, cache: preallocated}, {name: b, cache: int8}";
  const FinishedRun even = run_config(
      folder,
      folder.write("even.yaml",
                   config("{text: {random: 5, tokens: 200}, documents: 3, document_tokens: 20, "
                          "offset: 10, stride: 50}",
                          arms, "a")),
      {}, "even");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(even.sample({{"document", i}}).at("offset"), 10 + 50 * i);
  }
  // Fewer than 10 documents: a t-interval.
  const std::string markdown = read_whole(even.folder + "/report/report.md");
  EXPECT_NE(markdown.find("t-intervals of the documents' means over 3 documents"),
            std::string::npos);
  const FinishedRun drawn = run_config(folder, folder.write("run.yaml", config(kWorkload)));
  for (int i = 1; i < 12; ++i) {
    const auto offset = [&](int of) {
      return drawn.sample({{"document", of}}).at("offset").get<int64_t>();
    };
    EXPECT_GE(offset(i), offset(i - 1) + 64);
  }
}

TEST(QualityExperiment, ACacheThatPromisesTheControlsAnswerAndForgetsFailsTheRun) {
  const TemporaryFolder folder;
  // A window behind the traits of an exact cache.
  const auto extend = [](kvlab::Registry& registry) {
    kvlab::CacheEntry liar = registry.cache("ring", "");
    liar.info.name = "liar";
    liar.traits = [honest = liar.traits](const kvlab::CacheRequest& request) {
      kvlab::CacheTraits traits = honest(request);
      traits.exact = true;
      return traits;
    };
    registry.add(std::move(liar));
  };
  const std::string arms =
      "{name: preallocated, cache: preallocated}, {name: liar, cache: 'liar:window=16'}";
  const FinishedRun run =
      run_config(folder, folder.write("run.yaml", config(kWorkload, arms)), extend);
  EXPECT_EQ(run.code, 1);
  EXPECT_EQ(run.check("liar", "equal to the control, tolerance 1e-05").at("passed"), false);
  const std::string markdown = read_whole(run.folder + "/report/report.md");
  EXPECT_NE(markdown.find("liar should give the answer of preallocated and does not"),
            std::string::npos);
}

TEST(QualityExperiment, RefusesWhatCannotBe) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& workload, const std::string& arms = kArms) {
    return refusal(folder.write("bad.yaml", config(workload, arms)));
  };
  EXPECT_NE(message("{text: {random: 5, tokens: 100}, documents: 3, document_tokens: 40}")
                .find("3 documents of 40 tokens need a text of 120 tokens, this one has 100"),
            std::string::npos);
  EXPECT_NE(message("{text: {random: 5, tokens: 900}, document_tokens: 300}")
                .find("does not fit the context of 256"),
            std::string::npos);
  EXPECT_NE(message("{text: {random: 5, tokens: 900}, documents: 2, document_tokens: 9, seed: 1, "
                    "stride: 10}")
                .find("keep one"),
            std::string::npos);
  EXPECT_NE(message(kWorkload, "{name: preallocated, cache: preallocated}").find("add one"),
            std::string::npos);
}

}  // namespace

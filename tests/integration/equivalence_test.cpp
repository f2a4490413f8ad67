#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "kvlab/cache/forwarding_cache.h"
#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using namespace kvlab;
using nlohmann::json;

std::string config(const std::string& caches, const std::string& rest) {
  return "schema: kvlab/1\nexperiment: equivalence\nquestion: Is it the same?\nmodel: " +
         kTinyModel + "\ncaches: " + caches +
         "\nworkload: {texts: [{random: 1, tokens: 23}, {random: 2, tokens: 9}]}\n"
         "runtime: {threads: 1}\n" +
         rest;
}

// Loses the values of the step's own tokens, as a cache does that slices to its old length.
class ForgetfulCache : public ForwardingCache {
 public:
  ForgetfulCache(std::unique_ptr<KVCache> inner, bool exact)
      : ForwardingCache("forgetful", std::move(inner)), traits_(ForwardingCache::traits()) {
    traits_.exact = exact;
  }
  const CacheTraits& traits() const override { return traits_; }
  void append(int layer, const at::Tensor& key, const at::Tensor& value) override {
    zeros_ = at::zeros_like(value);
    ForwardingCache::append(layer, key, zeros_);
  }

 private:
  CacheTraits traits_;
  at::Tensor zeros_;
};

CacheEntry wrapper(const std::string& name, bool exact) {
  CacheEntry entry;
  entry.info.name = name;
  entry.info.summary = "Wrong on purpose.";
  const ComponentSpec inner{"concat", {}, ""};
  entry.traits = [inner, exact](const CacheRequest& request) {
    CacheTraits traits = request.registry.cache_traits(inner, request.shape);
    traits.exact = exact;
    return traits;
  };
  entry.estimate = [inner](const CacheRequest& request, const StepSequence& sequence) {
    return request.registry.estimate_cache(inner, request.shape, sequence);
  };
  entry.create = [inner, exact](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<ForgetfulCache>(
        request.registry.make_cache(inner, request.shape, arena), exact);
  };
  return entry;
}

TEST(Equivalence, EveryShippedExactCacheEqualsNoCache) {
  const TemporaryFolder folder;
  const FinishedRun run = run_config(
      folder, folder.write("all.yaml", config("all",
                                              "attentions: all\npositions: all\n"
                                              "dtypes: [f32, bf16]\nchunks: [1, 7, 0]\n")));
  EXPECT_EQ(run.code, 0) << run.log;
  expect_run_files(run);
  EXPECT_GT(run.samples.size(), 100u);
  int bit_identical = 0;
  for (const json& sample : run.samples) {
    // The one shipped cache that is approximate whatever its options are.
    const std::string verdict = sample.at("verdict");
    const std::string wanted = sample.at("arm") == "int8" ? "approximate" : "equal";
    EXPECT_TRUE(verdict == wanted || verdict == "refused") << sample;
    if (sample.contains("bit_identical")) bit_identical += sample.at("bit_identical") ? 1 : 0;
  }
  EXPECT_GT(bit_identical, 0);
}

TEST(Equivalence, AWrongCacheFails) {
  const TemporaryFolder folder;
  const FinishedRun run =
      run_config(folder,
                 folder.write("wrong.yaml", config("[forgetful, concat]",
                                                   "attentions: [eager]\n"
                                                   "dtypes: [f32, bf16]\nchunks: [1, 0]\n")),
                 [](Registry& registry) { registry.add(wrapper("forgetful", true)); });
  EXPECT_EQ(run.code, 1);
  EXPECT_EQ(run.run.at("status"), "failed");
  for (const char* dtype : {"f32", "bf16"}) {
    const std::string check = std::string("equal to no cache, ") + dtype + ", model tiny";
    EXPECT_EQ(run.check("forgetful", check).at("passed"), false) << dtype;
  }
  EXPECT_EQ(run.check("concat", "equal to no cache, f32, model tiny").at("passed"), true);
}

TEST(Equivalence, AnApproximateCacheIsShownAndNotJudged) {
  const TemporaryFolder folder;
  const FinishedRun run =
      run_config(folder, folder.write("near.yaml", config("[forgetful]", "attentions: [eager]\n")),
                 [](Registry& registry) { registry.add(wrapper("forgetful", false)); });
  EXPECT_EQ(run.code, 0) << run.log;
  const json sample = run.sample({{"arm", "forgetful"}});
  EXPECT_EQ(sample.at("verdict"), "approximate");
  EXPECT_GT(sample.at("mean_kl"), 0);
}

TEST(Equivalence, CombinationsThatCannotWorkAreListedWithReasons) {
  const TemporaryFolder folder;
  // More KV heads than the position of this model allows: 4 query heads cannot share 3.
  const FinishedRun run = run_config(
      folder, folder.write("refused.yaml",
                           config("['gqa_shared:kv_heads=3', concat]", "attentions: [eager]\n")));
  EXPECT_EQ(run.code, 0) << run.log;
  const json sample = run.sample({{"verdict", "refused"}});
  ASSERT_FALSE(sample.is_null());
  EXPECT_NE(sample.at("detail").get<std::string>().find("kv_heads must divide"), std::string::npos);
}

TEST(Equivalence, RunsAgainFromItsResolvedConfigWithTheSameNumbers) {
  const TemporaryFolder folder;
  const FinishedRun first =
      run_config(folder, folder.write("run.yaml", config("[concat, paged]",
                                                         "attentions: [eager, sdpa]\n"
                                                         "chunks: [7]\n")));
  const FinishedRun again = run_config(folder, first.folder + "/config/resolved.yaml", {}, "again");
  EXPECT_EQ(again.code, 0) << again.log;
  EXPECT_EQ(first.samples, again.samples);
}

TEST(Equivalence, RefusesPositionsForTrainedWeightsAndTextsBeyondTheContext) {
  const TemporaryFolder folder;
  std::string text = config("[concat]", "attentions: [eager]\n");
  text.replace(text.find("tokens: 23"), 10, "tokens: 257");
  const std::string message = refusal(folder.write("long.yaml", text));
  EXPECT_NE(message.find("a text of 257 tokens does not fit the context of 256 of model 'tiny'"),
            std::string::npos)
      << message;
  const std::string unknown =
      refusal(folder.write("unknown.yaml", config("[concta]", "attentions: [eager]\n")));
  EXPECT_NE(unknown.find("unknown.yaml:5:"), std::string::npos) << unknown;
  EXPECT_NE(unknown.find("Did you mean 'concat'?"), std::string::npos) << unknown;
}

}  // namespace

#include <gtest/gtest.h>

#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using nlohmann::json;

// Shapes alone: no weights and no files.
std::string shape(const std::string& name, int layers, int heads, int kv_heads, int head_dim,
                  int context) {
  const auto text = [](int value) { return std::to_string(value); };
  return "{name: " + name +
         ", source: {type: random, seed: 1}, shape: {vocabulary: 64, context: " + text(context) +
         ", d_model: " + text(heads * head_dim) + ", layers: " + text(layers) +
         ", n_heads: " + text(heads) + ", n_kv_heads: " + text(kv_heads) +
         ", d_mlp: 64, norm: layernorm, mlp: gelu_tanh, position: none}}";
}

const std::string kHead = "schema: kvlab/1\nexperiment: memory_table\nquestion: How many bytes?\n";

TEST(MemoryTable, GivesThePublishedBytes) {
  const TemporaryFolder folder;
  const std::string path = folder.write(
      "table.yaml", kHead + "models:\n  - " + shape("small", 12, 12, 12, 64, 1024) + "\n  - " +
                        shape("large", 36, 20, 20, 64, 1024) + "\n  - " +
                        shape("llama", 32, 32, 32, 128, 2048) + "\nlengths: [512, 2048, 8192]\n");
  const FinishedRun run = run_config(folder, path);
  EXPECT_EQ(run.code, 0) << run.log;
  expect_run_files(run);
  const auto bytes = [&](const char* model, int length) {
    return run.sample({{"case", "payload"}, {"model", model}, {"length", length}});
  };
  EXPECT_EQ(bytes("small", 512).at("bytes_per_token"), 36864);
  EXPECT_EQ(bytes("large", 512).at("bytes_per_token"), 184320);
  EXPECT_EQ(bytes("llama", 512).at("bytes_per_token"), 524288);
  EXPECT_EQ(bytes("small", 512).at("payload"), 18874368);
  EXPECT_EQ(bytes("small", 2048).at("payload"), 75497472);
  EXPECT_EQ(bytes("small", 8192).at("payload"), 301989888);
  EXPECT_EQ(bytes("large", 8192).at("payload"), 1509949440);
  EXPECT_EQ(bytes("llama", 2048).at("payload"), 1073741824);
  EXPECT_EQ(bytes("llama", 8192).at("payload"), 4294967296);
  EXPECT_EQ(bytes("small", 512).at("hypothetical"), false);
  EXPECT_EQ(bytes("small", 2048).at("hypothetical"), true) << "GPT-2 has 1,024 positions";
  EXPECT_EQ(bytes("llama", 2048).at("hypothetical"), false);
  const std::string markdown = read_whole(run.folder + "/report/report.md");
  EXPECT_NE(markdown.find("18.9"), std::string::npos);
  EXPECT_NE(markdown.find("302.0"), std::string::npos);
  EXPECT_NE(markdown.find("hypothetical"), std::string::npos);
}

TEST(MemoryTable, CountsGroupedHeadsAndWindows) {
  const TemporaryFolder folder;
  const std::string path =
      folder.write("table.yaml", kHead + "models: [" + shape("m", 32, 32, 32, 128, 32768) +
                                     "]\nlengths: [32768]\nkv_heads: [32, 8]\n"
                                     "window_layers: [{window: 1024, layers: 27}]\n");
  const FinishedRun run = run_config(folder, path);
  EXPECT_EQ(run.code, 0) << run.log;
  const auto payload = [&](int kv_heads, int window) {
    return run.sample({{"case", "payload"}, {"kv_heads", kv_heads}, {"window", window}})
        .at("payload");
  };
  EXPECT_EQ(payload(32, 0), 17179869184);
  EXPECT_EQ(payload(8, 0), 4294967296);
  EXPECT_EQ(payload(32, 1024), 3137339392);
  EXPECT_EQ(payload(8, 1024), 784334848);
}

TEST(MemoryTable, MeasuresWhatItEstimatesForEveryShippedCache) {
  const TemporaryFolder folder;
  const std::string path = folder.write(
      "table.yaml", kHead + "models: [" + shape("m", 3, 4, 2, 8, 2048) +
                        "]\nlengths: [1, 100, 1100]\ndtypes: [f16, f32]\nbatch: [2]\n"
                        "caches: [none, concat, preallocated, 'preallocated:growth=doubling', "
                        "'paged:block_size=16', gqa_shared]\nmeasure: {max_bytes: 100000000}\n");
  const FinishedRun run = run_config(folder, path);
  EXPECT_EQ(run.code, 0) << run.log;
  EXPECT_EQ(run.summary.at("checks").size(), 12u) << "6 caches, 2 element types";
  for (const json& check : run.summary.at("checks")) EXPECT_EQ(check.at("passed"), true) << check;
  const json sample = run.sample(
      {{"case", "cache"}, {"arm", "paged:block_size=16"}, {"model", "m, f16"}, {"length", 100}});
  ASSERT_FALSE(sample.is_null());
  EXPECT_EQ(sample.at("payload"), 2 * 2 * 3 * 2 * 100 * 8 * 2);
  EXPECT_EQ(sample.at("payload_measured"), sample.at("payload"));
  EXPECT_EQ(sample.at("reserved_measured"), sample.at("reserved_estimate"));
  EXPECT_GE(sample.at("reserved_measured"), 2 * 2 * 3 * 2 * 112 * 8 * 2) << "whole blocks";
}

TEST(MemoryTable, LeavesLargeCellsUnmeasured) {
  const TemporaryFolder folder;
  const std::string path = folder.write(
      "table.yaml", kHead + "models: [" + shape("m", 3, 4, 4, 8, 2048) +
                        "]\nlengths: [10, 1000]\ncaches: [concat]\nmeasure: {max_bytes: 10000}\n");
  const FinishedRun run = run_config(folder, path);
  EXPECT_EQ(run.code, 0) << run.log;
  EXPECT_TRUE(run.sample({{"case", "cache"}, {"length", 10}}).contains("payload_measured"));
  EXPECT_FALSE(run.sample({{"case", "cache"}, {"length", 1000}}).contains("payload_measured"));
}

TEST(MemoryTable, RefusesHeadsAndCachesThatDoNotFit) {
  const TemporaryFolder folder;
  const std::string model = "models: [" + shape("m", 2, 12, 12, 8, 64) + "]\nlengths: [8]\n";
  const std::string heads = refusal(folder.write("heads.yaml", kHead + model + "kv_heads: [8]\n"));
  EXPECT_NE(heads.find("heads.yaml:6:11: kv_heads: kv_heads must divide the 12 heads of model 'm', "
                       "got 8"),
            std::string::npos)
      << heads;
  const std::string cache =
      refusal(folder.write("cache.yaml", kHead + model + "caches: [pagde]\n"));
  EXPECT_NE(cache.find("cache.yaml:6:"), std::string::npos) << cache;
  EXPECT_NE(cache.find("Did you mean 'paged'?"), std::string::npos) << cache;
  const std::string dtype = refusal(folder.write("dtype.yaml", kHead + model + "dtypes: [f8]\n"));
  EXPECT_NE(dtype.find("an element type is f32, bf16 or f16, got 'f8'"), std::string::npos)
      << dtype;
}

}  // namespace

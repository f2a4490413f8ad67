// What the benchmark says of the bytes behind a decode step: how near it is to reading them, what a
// cache holds on the way, and why holding less was not faster.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "kvlab/runtime/memory_floor.h"
#include "kvlab/runtime/report_document.h"
#include "kvlab/runtime/session.h"
#include "tests/fixtures/run_config.h"

namespace {

using namespace kvlab::test;
using nlohmann::json;

constexpr int64_t kPrompt = 6, kNew = 12;

// 23.6 MB of weights: more than the benchmark takes for something that stays in the CPU's caches.
const std::string kLargerModel =
    "{name: larger, source: {type: random, seed: 3}, shape: {vocabulary: 64, context: 256, "
    "d_model: 256, layers: 6, n_heads: 4, n_kv_heads: 2, d_mlp: 1024, norm: rmsnorm, mlp: swiglu, "
    "qkv_bias: false, output_bias: false, mlp_bias: false, tied_head: false, "
    "position: {type: rope, theta: 10000}}}";
constexpr int64_t kLargerBytesPerToken = 6 * 2 * 64 * 2 * 4;
constexpr int64_t kTinyBytesPerToken = 2 * 2 * 8 * 2 * 4;

FinishedRun run(const TemporaryFolder& folder, const std::string& model, const std::string& arms,
                const std::string& control, const std::string& measure) {
  return run_config(
      folder, folder.write("benchmark.yaml",
                           "schema: kvlab/1\nexperiment: generation_benchmark\nquestion: Why?\n"
                           "model: " + model +
                               "\nworkload: {prompt: {random: 11}, prompt_tokens: [6], new_tokens: "
                               "[12], gate_tokens: 12}\narms: [" + arms + "]\ncontrol: " + control +
                               "\nruntime: {threads: 1}\nmeasure: {repeats: 1, warmup: 0, aa: false" +
                               measure + "}\n"));
}

std::vector<std::vector<std::string>> csv_of(const FinishedRun& finished, const char* id) {
  return kvlab::parse_csv(read_whole(finished.folder + "/report/data/" + id + ".csv"));
}

// The cell of a row of the split table.
double cell(const FinishedRun& finished, const std::string& arm, const std::string& column) {
  const auto rows = csv_of(finished, "split");
  for (const auto& row : rows) {
    if (row.at(0) != arm) continue;
    for (size_t i = 0; i < row.size(); ++i) {
      if (rows.at(0).at(i) == column) return std::stod(row.at(i));
    }
  }
  throw std::runtime_error("no cell " + arm + ", " + column);
}

TEST(BenchmarkFloor, AStepOfManyWeightsIsSetBesideTheTimeOfReadingItsBytes) {
  if (kvlab::available_memory() < 4 * kvlab::kProbeBytes) GTEST_SKIP() << "short of memory";
  const TemporaryFolder folder;
  // The slowdown is planted so that the arm that holds less is never found faster.
  const FinishedRun finished =
      run(folder, kLargerModel,
          "{name: paged, cache: 'paged:block_size=64'}, {name: concat, cache: concat}", "paged",
          ", planted_slowdown: {concat: 3}");
  ASSERT_EQ(finished.code, 0) << finished.log;
  const std::string text = read_whole(finished.folder + "/report/report.md");
  const json line = json::parse(read_whole(finished.folder + "/bandwidth.jsonl"));
  const double speed = line.at("bytes_per_second");
  EXPECT_GT(speed, 1e8);
  // A step reads from 6 to 17 tokens.
  const double kv = 0.5 * (kPrompt + kPrompt + kNew - 1) * kLargerBytesPerToken;
  EXPECT_EQ(finished.sample({{"arm", "paged"}}).at("step_bytes").at("kv_read"), kv);
  EXPECT_EQ(finished.sample({{"arm", "paged"}}).at("step_bytes").at("copied"), 0);
  EXPECT_GT(finished.sample({{"arm", "concat"}}).at("step_bytes").at("copied"), 0);
  const double floor = cell(finished, "paged", "floor [ms]");
  EXPECT_NEAR(floor * 1e-3 * speed - kv, 23.6e6, 0.1e6) << "the weights of one step";
  EXPECT_NEAR(cell(finished, "paged", "floor_share [%]"),
              100 * floor / cell(finished, "paged", "step [ms]"), 1e-6);
  EXPECT_NE(text.find("% of the memory-bandwidth floor"), std::string::npos) << text;
  EXPECT_NE(text.find("concat reserves 73 % fewer bytes than paged and was not found faster: a step "
                      "reads as much K and V"),
            std::string::npos)
      << text;
}

TEST(BenchmarkFloor, WeightsThatStayInTheCachesHaveNoFloorAndTheReportSaysWhy) {
  const TemporaryFolder folder;
  const FinishedRun finished =
      run(folder, kTinyModel, "{name: none, cache: none}, {name: paged, cache: paged}", "none", "");
  ASSERT_EQ(finished.code, 0) << finished.log;
  EXPECT_FALSE(std::filesystem::exists(finished.folder + "/bandwidth.jsonl"));
  EXPECT_NE(read_whole(finished.folder + "/report/report.md").find("stay in the CPU's caches"),
            std::string::npos);
  for (const json& entry : finished.summary.at("metrics")) {
    EXPECT_NE(entry.at("metric"), "floor_share");
  }
}

TEST(BenchmarkFloor, ReservedBytesAreCountedOnTheWayAndPredictionsDrawnBesideThem) {
  const TemporaryFolder folder;
  const FinishedRun finished = run(folder, kTinyModel,
                                   "{name: concat, cache: concat}, "
                                   "{name: preallocated, cache: preallocated}",
                                   "concat", "");
  ASSERT_EQ(finished.code, 0) << finished.log;
  std::vector<int64_t> lengths;
  const json growing = finished.sample({{"arm", "concat"}}).at("held");
  for (const json& at : growing) {
    lengths.push_back(at.at("new_tokens"));
    EXPECT_EQ(at.at("reserved"), (kPrompt + lengths.back() - 1) * kTinyBytesPerToken);
  }
  EXPECT_EQ(lengths, (std::vector<int64_t>{1, 2, 3, 4, 6, 8, 12}));
  const json constant = finished.sample({{"arm", "preallocated"}}).at("held");
  EXPECT_EQ(constant.size(), lengths.size());
  for (const json& at : constant) {
    EXPECT_EQ(at.at("reserved"), (kPrompt + kNew - 1) * kTinyBytesPerToken);
  }
  EXPECT_EQ(csv_of(finished, "bytes_by_length").size(), 1 + 3 * lengths.size())
      << "both arms, and the live K and V";
  const auto predicted = csv_of(finished, "predicted_measured");
  ASSERT_EQ(predicted.size(), 1u + 2 * 2) << "reserved and peak of both arms";
  for (size_t i = 1; i < predicted.size(); ++i) EXPECT_EQ(predicted[i].at(2), predicted[i].at(3));
}

}  // namespace

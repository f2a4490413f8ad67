// What `kvlab generate` leaves for analysis elsewhere: a timeline, logits, keys and values, block tables.
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "kvlab/model/tensor_file.h"
#include "kvlab/runtime/equality.h"
#include "tests/fixtures/run_config.h"
#include "tests/fixtures/run_program.h"

namespace kvlab {
namespace {

using Json = nlohmann::json;

// A small GPT-2 with random weights.
const std::string kGpt2 = KVLAB_SOURCE_DIR "/tests/golden/gpt2_tiny";
constexpr int64_t kPrompt = 5, kNewTokens = 7;

ProgramResult generate(std::vector<std::string> more) {
  std::vector<std::string> words{KVLAB_BINARY_DIR "/bin/kvlab", "generate", "--model", kGpt2,
                                 "--ids", "1,2,3,4,5", "--new-tokens", "7", "--json"};
  words.insert(words.end(), more.begin(), more.end());
  return run_program(words);
}

Json shape_of_model() { return Json::parse(test::read_whole(kGpt2 + "/config.json")); }

TEST(GenerationFiles, TraceNestsAndCountsLayersTimesSteps) {
  const test::TemporaryFolder folder;
  const std::string path = folder.file("trace.json");
  const auto start = std::chrono::steady_clock::now();
  const ProgramResult result = generate({"--trace", path});
  const std::chrono::duration<double, std::micro> wall = std::chrono::steady_clock::now() - start;
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const int64_t layers = shape_of_model().at("n_layer");
  const Json trace = Json::parse(test::read_whole(path));
  int64_t steps = 0, layer_events = 0, attentions = 0, appends = 0;
  double in_steps = 0, step_end = 0, layer_begin = 0, layer_end = 0;
  for (const Json& event : trace.at("traceEvents")) {
    if (event.at("ph") != "X") continue;
    const double begin = event.at("ts"), duration = event.at("dur");
    constexpr double kRounding = 0.01;
    const std::string kind = event.at("cat"), name = event.at("name");
    EXPECT_GE(duration, 0);
    if (kind == "step") {
      EXPECT_EQ(name, "step " + std::to_string(steps));
      EXPECT_GE(begin + kRounding, step_end) << "steps follow each other";
      step_end = begin + duration;
      in_steps += duration;
      ++steps;
      continue;
    }
    EXPECT_LE(begin + duration, step_end + kRounding) << name;
    if (kind == "layer") {
      layer_begin = begin;
      layer_end = begin + duration;
      ++layer_events;
    } else if (event.at("args").contains("layer")) {
      EXPECT_GE(begin + kRounding, layer_begin) << name;
      EXPECT_LE(begin + duration, layer_end + kRounding) << name;
      attentions += name == "attention";
      appends += name == "cache append";
    }
  }
  // One prefill and one step for each new token but the first.
  EXPECT_EQ(steps, kNewTokens);
  EXPECT_EQ(layer_events, layers * kNewTokens);
  EXPECT_EQ(attentions, layers * kNewTokens);
  EXPECT_EQ(appends, layers * kNewTokens);
  EXPECT_GT(in_steps, 0);
  EXPECT_LT(in_steps, wall.count());
}

TEST(GenerationFiles, DumpHoldsTheLogitsAndEntriesOfTheRun) {
  const test::TemporaryFolder folder;
  const ProgramResult result =
      generate({"--dump", folder.file("paged"), "--cache", "paged:block_size=4"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const ProgramResult whole = generate({"--dump", folder.file("whole"), "--cache", "preallocated"});
  ASSERT_EQ(whole.exit_code, 0) << whole.err;

  const Json shape = shape_of_model();
  const int64_t heads = shape.at("n_head"), width = shape.at("n_embd").get<int64_t>() / heads;
  const SafetensorsFile logits(folder.file("paged/logits.safetensors"));
  const at::Tensor rows = logits.tensor("logits");
  EXPECT_EQ(rows.sizes().vec(), (std::vector<int64_t>{kNewTokens, shape.at("vocab_size")}));
  // The likeliest token was taken at every step.
  const Json tokens = Json::parse(result.out).at("tokens");
  for (int64_t i = 0; i < kNewTokens; ++i)
    EXPECT_EQ(rows[i].argmax().item<int64_t>(), tokens.at(static_cast<size_t>(i)));

  // The last new token is never fed. Both caches hold the same entries, in blocks or in one run.
  const int64_t held = kPrompt + kNewTokens - 1;
  const SafetensorsFile paged(folder.file("paged/kv.safetensors"));
  const SafetensorsFile contiguous(folder.file("whole/kv.safetensors"));
  for (const char* name : {"layer.0.row.0.keys", "layer.1.row.0.values"}) {
    const at::Tensor entries = paged.tensor(name);
    EXPECT_EQ(entries.sizes().vec(), (std::vector<int64_t>{heads, held, width}));
    // Blocks are read in another order, so sums may differ in their last bits.
    const float largest = entries.abs().max().item<float>();
    EXPECT_GT(largest, 0);
    EXPECT_TRUE(entries.allclose(contiguous.tensor(name), 0, kEqualityTolerance * largest))
        << name;
  }
  EXPECT_EQ(paged.entry("layer.0.row.0.positions").dtype, "I32");
  const SafetensorsFile blocks(folder.file("paged/blocks.safetensors"));
  const SafetensorsFile run(folder.file("whole/blocks.safetensors"));
  EXPECT_EQ(blocks.entry("layer.0.row.0.count").dtype, "I64");
  const auto segments = [](const SafetensorsFile& file) {
    return file.entry("layer.0.row.0.count").shape.at(0);
  };
  EXPECT_GE(segments(blocks), 1);
  EXPECT_LE(segments(blocks), (held + 3) / 4);
  EXPECT_EQ(segments(run), 1);
}

TEST(GenerationFiles, AFileThatCannotBeWrittenIsRefusedBeforeAnythingRuns) {
  const test::TemporaryFolder folder;
  const std::string file = folder.write("file", "x");
  const std::vector<std::vector<std::string>> refused = {
      {"--trace", "/proc/no/trace.json"}, {"--trace", "/proc/trace.json"},
      {"--trace", folder.file(".")},      {"--trace", file + "/trace.json"},
      {"--dump", "/proc/no"},             {"--dump", file},
      {"--dump", file + "/below"}};
  for (const std::vector<std::string>& options : refused) {
    const ProgramResult result = generate(options);
    EXPECT_EQ(result.exit_code, 2) << options[1] << "\n" << result.err;
    EXPECT_NE(result.err.find("[command_line." + options[0] + "]"), std::string::npos)
        << result.err;
    EXPECT_EQ(result.out, "") << "nothing was generated";
  }
  // What is refused for another reason leaves nothing behind.
  const ProgramResult other =
      generate({"--dump", folder.file("new"), "--trace", folder.file("t.json"), "--cache", "no"});
  EXPECT_EQ(other.exit_code, 4) << other.err;
  EXPECT_FALSE(std::filesystem::exists(folder.file("new")));
  EXPECT_FALSE(std::filesystem::exists(folder.file("t.json")));
}

}  // namespace
}  // namespace kvlab

// The command line against the reference values of three tiny checkpoints: greedy tokens and
// likelihoods through every exact cache, every attention and three prefill chunks.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kvlab/model/checkpoint.h"
#include "kvlab/runtime/session.h"
#include "tests/fixtures/run_program.h"

namespace kvlab {
namespace {

constexpr double kTolerance = 1e-4;  // of the reference values, fp32
const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";

struct Case {
  std::string cache, attention;
  int chunk;
};

std::string id_list(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += (text.empty() ? "" : ",") + std::to_string(id);
  return text;
}

// Every exact cache with default options, paging with other block sizes, and every attention that
// works with them. Traits decide, not names.
std::vector<Case> exact_cases(const ModelConfig& model) {
  Registry registry;
  register_builtin_plugins(registry);
  std::vector<std::string> caches = {"paged:block_size=1", "paged:block_size=16"};
  for (const CacheEntry& entry : registry.caches()) caches.push_back(entry.info.name);
  std::vector<Case> cases;
  for (const std::string& cache : caches) {
    SessionOptions options;
    options.cache = parse_component_spec(cache);
    if (!registry.cache_traits(options.cache, session_shape(model, options)).exact) continue;
    for (const AttentionEntry& attention : registry.attentions()) {
      options.attention.type = attention.info.name;
      if (!incompatibilities(model, registry, options, true).empty()) continue;
      for (const int chunk : {1, 7, 0}) cases.push_back({cache, attention.info.name, chunk});
    }
  }
  return cases;
}

class CommandLineGolden : public testing::TestWithParam<const char*> {
 protected:
  CommandLineGolden() : folder_(std::string(KVLAB_SOURCE_DIR "/tests/golden/") + GetParam()) {
    std::ifstream file(folder_ + "/expected.json");
    expected_ = nlohmann::json::parse(file);
    prompt_ = expected_.at("prompt").get<std::vector<int32_t>>();
    greedy_ = expected_.at("greedy").get<std::vector<int32_t>>();
    cases_ = exact_cases(read_model_config(folder_));
  }

  nlohmann::json run(const Case& one, std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), kBinary);
    for (const std::string& word :
         {std::string("--model"), folder_, std::string("--cache"), one.cache,
          std::string("--attention"), one.attention, std::string("--chunk"),
          std::to_string(one.chunk), std::string("--threads"), std::string("1"),
          std::string("--json")}) {
      arguments.push_back(word);
    }
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return nlohmann::json::parse(result.out);
  }

  std::string folder_;
  nlohmann::json expected_;
  std::vector<int32_t> prompt_, greedy_;
  std::vector<Case> cases_;
};

TEST_P(CommandLineGolden, CoversFiveCachesTwoAttentionsAndThreeChunks) {
  EXPECT_GE(cases_.size(), 5u * 2u * 3u);
}

TEST_P(CommandLineGolden, GenerateGivesTheReferencesGreedyTokens) {
  for (const Case& one : cases_) {
    SCOPED_TRACE(one.cache + ", " + one.attention + ", chunk " + std::to_string(one.chunk));
    const auto json = run(one, {"generate", "--ids", id_list(prompt_), "--new-tokens",
                                std::to_string(greedy_.size())});
    EXPECT_EQ(json.at("tokens").get<std::vector<int32_t>>(), greedy_);
  }
}

TEST_P(CommandLineGolden, ScoreGivesTheReferencesLikelihoods) {
  std::vector<int32_t> text = prompt_;
  text.insert(text.end(), greedy_.begin(), greedy_.end());
  const auto wanted =
      expected_.at("nll_per_token_of_prompt_plus_greedy").get<std::vector<double>>();
  for (const Case& one : cases_) {
    SCOPED_TRACE(one.cache + ", " + one.attention + ", chunk " + std::to_string(one.chunk));
    const auto json = run(one, {"score", "--ids", id_list(text)});
    const auto got = json.at("nll").get<std::vector<double>>();
    ASSERT_EQ(got.size(), wanted.size());
    double sum = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_NEAR(got[i], wanted[i], kTolerance) << "token " << i + 1;
      sum += got[i];
    }
    const double mean = sum / static_cast<double>(got.size());
    EXPECT_NEAR(json.at("mean_nll").get<double>(), mean, 1e-9);
    EXPECT_NEAR(json.at("perplexity").get<double>(), std::exp(mean), 1e-6 * std::exp(mean));
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, CommandLineGolden,
                         testing::Values("gpt2_tiny", "llama_gqa_tiny", "llama_mqa_tied_tiny"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace kvlab

// Tokens and logits that other implementations gave: seeded GPT-2-124M, three Hugging Face
// checkpoints, and SmolLM2 from GGUF. tests/golden/README.md says where each came from.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "../fixtures/test_models.h"
#include "kvlab/runtime/generator.h"

namespace kvlab::testing {
namespace {

using Json = nlohmann::json;
using Tokens = std::vector<int32_t>;

// f32 logits and losses of another implementation: other orders of summation.
constexpr double kParityTolerance = 1e-4;

Tokens greedy(const Model& model, const SessionOptions& options, const Tokens& prompt,
              int64_t new_tokens) {
  Session session(model, registry(), options);
  GenerateOptions generation;
  generation.new_tokens = new_tokens;
  return generate(session, {prompt}, generation).tokens.front();
}

TEST(GoldenTokens, SeededGpt2SaysTheSameThroughEveryExactCache) {
  const Tokens prompt = {15496, 11, 314, 716};
  const Tokens wanted = {27018, 24086, 47843, 30961, 42348, 7267, 49706, 43231, 47062, 34657};
  EXPECT_EQ(golden_gpt2().tokenizer->encode("Hello, I am"), prompt);
  for (const std::string& cache : exact_caches(golden_gpt2().config())) {
    EXPECT_EQ(greedy(golden_gpt2(), options_for(cache, 1, 64, 0), prompt, 10), wanted) << cache;
  }
}

TEST(GoldenTokens, SeededGpt2SaysTheSameThroughFusedAttentionAndChunks) {
  const Tokens prompt = {15496, 11, 314, 716};
  const Tokens wanted = {27018, 24086, 47843, 30961, 42348, 7267, 49706, 43231, 47062, 34657};
  EXPECT_EQ(greedy(golden_gpt2(), options_for("paged", 1, 64, 3, "sdpa"), prompt, 10), wanted);
}

class HuggingFaceParity : public ::testing::TestWithParam<const char*> {};

TEST_P(HuggingFaceParity, LogitsLossesAndGreedyTokensMatch) {
  const Model model = tiny_checkpoint(GetParam());
  const Json expected = Json::parse(golden_file(std::string(GetParam()) + "/expected.json"));
  const auto prompt = expected["prompt"].get<Tokens>();
  const auto continuation = expected["greedy"].get<Tokens>();
  const auto losses = expected["nll_per_token_of_prompt_plus_greedy"].get<std::vector<double>>();
  Tokens text = prompt;
  text.insert(text.end(), continuation.begin(), continuation.end());
  const auto length = static_cast<int64_t>(text.size());

  for (const std::string& cache : exact_caches(model.config())) {
    for (const char* attention : {"eager", "sdpa", "fused"}) {
      for (const int64_t chunk : {1, 7, 0}) {
        SCOPED_TRACE(cache + " " + attention + " chunk " + std::to_string(chunk));
        const SessionOptions options = options_for(cache, 1, length, chunk, attention);
        EXPECT_EQ(greedy(model, options, prompt, static_cast<int64_t>(continuation.size())),
                  continuation);

        Session scored(model, registry(), options);
        const std::vector<double> found = score(scored, text);
        ASSERT_EQ(found.size(), losses.size());
        for (size_t i = 0; i < found.size(); ++i) {
          EXPECT_NEAR(found[i], losses[i], kParityTolerance) << "token " << i + 1;
        }

        Session traced(model, registry(), options);
        teacher_force(traced, {prompt}, [&](int, int64_t position, std::span<const float> logits) {
          const auto row = expected["prompt_logits"].find(std::to_string(position));
          if (row == expected["prompt_logits"].end()) return;
          const auto wanted = row->get<std::vector<double>>();
          ASSERT_EQ(logits.size(), wanted.size());
          for (size_t i = 0; i < wanted.size(); ++i) {
            ASSERT_NEAR(static_cast<double>(logits[i]), wanted[i], kParityTolerance)
                << "position " << position << ", logit " << i;
          }
        });
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(TinyCheckpoints, HuggingFaceParity,
                         ::testing::Values("gpt2_tiny", "llama_gqa_tiny", "llama_mqa_tied_tiny"));

// Where the reference's two best logits are closer than 1e-3, another correct order of summation may
// choose the other: the step is then compared by its logits and goes on with the reference's token.
TEST(GoldenTokens, SmolLm2ContinuesThreePromptsAsTheReference) {
  constexpr double kNearTie = 1e-3;
  const Json cases = Json::parse(golden_file("smollm2_greedy.json"));
  ASSERT_EQ(cases.size(), 3u);
  for (const std::string& cache : exact_caches(smollm2().config())) {
    for (const Json& one : cases) {
      SCOPED_TRACE(cache + ": " + one["prompt"].get<std::string>());
      const auto prompt = one["prompt_ids"].get<Tokens>();
      const auto wanted = one["greedy_64"].get<Tokens>();
      const auto gaps = one["top1_top2_gaps"].get<std::vector<double>>();
      EXPECT_EQ(smollm2().tokenizer->encode(one["prompt"].get<std::string>()), prompt);

      Tokens text = prompt;
      text.insert(text.end(), wanted.begin(), wanted.end() - 1);
      const auto first = static_cast<int64_t>(prompt.size()) - 1;
      Session session(smollm2(), registry(),
                      options_for(cache, 1, static_cast<int64_t>(text.size()), 16));
      teacher_force(session, {text}, [&](int, int64_t position, std::span<const float> logits) {
        if (position < first) return;
        const auto step = static_cast<size_t>(position - first);
        const int32_t best = argmax(logits);
        if (best != wanted[step]) {
          EXPECT_LT(gaps[step], kNearTie) << "step " << step;
          EXPECT_NEAR(logits[static_cast<size_t>(best)], logits[static_cast<size_t>(wanted[step])],
                      kNearTie);
        }
        if (step > 0) return;
        for (const Json& pair : one["first_step_top8"]) {
          EXPECT_NEAR(logits[pair[0].get<size_t>()], pair[1].get<double>(), 1e-3);
        }
      });
      EXPECT_EQ(smollm2().tokenizer->decode(wanted), one["text"].get<std::string>());
    }
  }
}

TEST(GoldenTokens, SmolLm2GeneratesTheReferenceTextThroughGenerate) {
  const Json cases = Json::parse(golden_file("smollm2_greedy.json"));
  for (const Json& one : cases) {
    const auto gaps = one["top1_top2_gaps"].get<std::vector<double>>();
    if (*std::min_element(gaps.begin(), gaps.end()) < 1e-3) continue;  // covered step by step above
    const auto prompt = one["prompt_ids"].get<Tokens>();
    EXPECT_EQ(greedy(smollm2(), options_for("paged", 1, 128, 0), prompt, 64),
              one["greedy_64"].get<Tokens>())
        << one["prompt"];
  }
}

}  // namespace
}  // namespace kvlab::testing

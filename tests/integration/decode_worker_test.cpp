// `kvlab decode-worker`: what it computes is what the other commands compute, and a request that it
// cannot answer does not end it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";
const std::string kGpt2 = KVLAB_SOURCE_DIR "/tests/golden/gpt2_tiny";  // context 128, no tokenizer

constexpr int64_t kWarmUpSteps = 2;

// Feeds the requests to a worker; entry 0 is its description, then one answer for each.
std::vector<Json> ask(const std::vector<Json>& requests, const std::string& options = "") {
  TemporaryFolder folder;
  std::string lines;
  for (const Json& request : requests) {
    lines += (request.is_string() ? request.get<std::string>() : request.dump()) + "\n";
  }
  const std::string file = folder.write("requests", lines);
  const ProgramResult result = run_program(
      {"/bin/sh", "-c", "exec \"$0\" decode-worker \"$1\" --threads 2 " + options + " < \"$2\"",
       kBinary, kGpt2, file});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  std::vector<Json> answers;
  std::istringstream stream(result.out);
  for (std::string line; std::getline(stream, line);) answers.push_back(Json::parse(line));
  return answers;
}

std::vector<int32_t> fed(int64_t row, int64_t count, int64_t vocabulary) {
  std::vector<int32_t> tokens;
  for (int64_t position = 0; position < count; ++position) {
    tokens.push_back(static_cast<int32_t>((17 + 7919 * position + 104729 * row) % vocabulary));
  }
  return tokens;
}

// The likeliest token after the first `count` fed ones, by the request that feeds a prompt.
Json next_after(int64_t row, int64_t count, int64_t vocabulary) {
  const auto answers =
      ask({{{"op", "greedy"}, {"prompt_ids", fed(row, count, vocabulary)}, {"tokens", 1}}});
  return answers.at(1).at("ids").at(0);
}

TEST(DecodeWorker, GreedyGivesTheTokensOfGenerate) {
  const auto answers =
      ask({{{"op", "greedy"}, {"prompt_ids", {1, 2, 3}}, {"tokens", 12}}, {{"op", "quit"}}});
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].at("ready"), true);
  EXPECT_EQ(answers[0].at("context"), 128);
  EXPECT_EQ(answers[0].at("threads"), 2);
  const ProgramResult generated = run_program(
      {kBinary, "generate", "--model", kGpt2, "--ids", "1,2,3", "--new-tokens", "12", "--json"});
  EXPECT_EQ(answers[1].at("ids"), Json::parse(generated.out).at("tokens"));
  EXPECT_EQ(answers[1].at("ns").size(), 12u);
}

TEST(DecodeWorker, DecodeTimesEveryStepAfterTheDepthItWasAskedFor) {
  constexpr int64_t kDepth = 40, kTokens = 5;
  const Json request = {{"op", "decode"}, {"depth", kDepth}, {"tokens", kTokens}, {"batch", 3}};
  const auto answers = ask({request});
  const Json& answer = answers.at(1);
  ASSERT_EQ(answer.at("ns").size(), static_cast<size_t>(kTokens));
  for (const Json& time : answer.at("ns")) EXPECT_GT(time.get<int64_t>(), 0);
  const int64_t vocabulary = answers[0].at("vocabulary");
  for (int64_t row = 0; row < 3; ++row) {
    EXPECT_EQ(answer.at("last_ids").at(static_cast<size_t>(row)),
              next_after(row, kDepth + kWarmUpSteps + kTokens, vocabulary));
  }
}

TEST(DecodeWorker, ARequestAskedAgainGivesTheSameTokensOnEveryCache) {
  Json request = {{"op", "decode"}, {"depth", 30}, {"tokens", 4}, {"batch", 2}};
  Json paged = request, concat = request, empty = request;
  paged["cache"] = "paged:block_size=16";
  concat["cache"] = "concat";
  empty["depth"] = 0;
  const auto answers = ask({request, paged, concat, empty, request, paged, concat, empty});
  ASSERT_EQ(answers.size(), 9u);
  for (size_t i = 1; i <= 4; ++i) {
    EXPECT_EQ(answers[i].at("last_ids"), answers[i + 4].at("last_ids")) << i;
  }
  EXPECT_EQ(answers[2].at("last_ids"), answers[1].at("last_ids"));
  EXPECT_EQ(answers[3].at("last_ids"), answers[1].at("last_ids"));
}

TEST(DecodeWorker, PrefillFeedsTheWholePromptAtOnce) {
  const auto answers = ask({{{"op", "prefill"}, {"tokens", 100}}});
  EXPECT_EQ(answers.at(1).at("ns").size(), 1u);
  EXPECT_EQ(answers[1].at("last_ids").at(0),
            next_after(0, 100, answers[0].at("vocabulary").get<int64_t>()));
}

TEST(DecodeWorker, WeightsAndCacheMayHaveTypesOfTheirOwn) {
  for (const char* options : {"--weights bf16 --cache-dtype bf16", "--weights int8"}) {
    const auto answers = ask({{{"op", "decode"}, {"depth", 8}, {"tokens", 2}}}, options);
    ASSERT_EQ(answers.size(), 2u) << options;
    EXPECT_TRUE(answers[1].contains("ns")) << options << ": " << answers[1];
  }
}

TEST(DecodeWorker, ARequestThatCannotBeAnsweredSaysWhyAndTheNextOneIs) {
  const std::vector<std::pair<Json, std::string>> wrong = {
      {"{", "[decode_worker.request] wanted one JSON object per line, got no JSON"},
      {Json::array({1, 2}), "got array"},
      {{{"tokens", 2}}, "[decode_worker.request] 'op' must be"},
      {{{"op", 7}}, "[decode_worker.request] 'op' must be"},
      {{{"op", "dance"}}, "'dance' is no operation"},
      {{{"op", "prefill"}}, "'tokens' is missing"},
      {{{"op", "prefill"}, {"tokens", 0}}, "from 1 to 128 (the model's context), got 0"},
      {{{"op", "prefill"}, {"tokens", 129}}, "got 129"},
      {{{"op", "prefill"}, {"tokens", 2.5}}, "got 2.5"},
      {{{"op", "prefill"}, {"tokens", "2"}}, "got string"},
      {{{"op", "prefill"}, {"tokens", 18446744073709551615u}}, "got 18446744073709551615"},
      {{{"op", "prefill"}, {"tokens", 2}, {"batch", 2}}, "'batch' is no key of 'prefill'"},
      {{{"op", "quit"}, {"now", true}}, "'now' is no key of 'quit'"},
      {{{"op", "decode"}, {"depth", 2}, {"tokens", 2}, {"bach", 8}}, "Did you mean 'batch'"},
      {{{"op", "decode"}, {"depth", 2}, {"tokens", 2}, {"attention", "eager"}}, "'attention' is no"},
      {{{"op", "decode"}, {"depth", 2}, {"tokens", 2}, {"batch", 2147483647}}, "from 1 to 4096"},
      {{{"op", "decode"}, {"depth", 2}, {"tokens", 2}, {"cache", 3}}, "'cache' must be a text"},
      {{{"op", "decode"}, {"depth", 100}, {"tokens", 100}}, "got 202, wanted at most 128"},
      {{{"op", "decode"}, {"depth", 200}, {"tokens", 2}}, "context"},
      {{{"op", "decode"}, {"depth", 2}, {"tokens", 2}, {"cache", "none"}}, "has no depth"},
      {{{"op", "decode"}, {"depth", 2}, {"tokens", 2}, {"cache", "pagd"}}, "paged"},
      {{{"op", "greedy"}, {"prompt_ids", {1, 199}}, {"tokens", 2}},
       "'prompt_ids[1]' must be a whole number from 0 to 198 (the model's vocabulary), got 199"},
      {{{"op", "greedy"}, {"prompt_ids", Json::array({4294967299})}, {"tokens", 2}}, "got 4294967299"},
      {{{"op", "greedy"}, {"prompt_ids", Json::array({1.7})}, {"tokens", 2}}, "got 1.7"},
      {{{"op", "greedy"}, {"prompt_ids", 3}, {"tokens", 2}}, "must be a list, got number"},
      {{{"op", "greedy"}, {"tokens", 2}}, "either 'prompt' or 'prompt_ids'"},
      {{{"op", "greedy"}, {"prompt", "text"}, {"tokens", 2}}, "no tokenizer"},
  };
  std::vector<Json> requests;
  for (const auto& [request, text] : wrong) requests.push_back(request);
  requests.push_back({{"op", "prefill"}, {"tokens", 4}});
  const auto answers = ask(requests);
  ASSERT_EQ(answers.size(), wrong.size() + 2);
  for (size_t i = 0; i < wrong.size(); ++i) {
    EXPECT_THAT(answers[i + 1].value("error", ""), HasSubstr(wrong[i].second));
  }
  EXPECT_TRUE(answers.back().contains("ns"));
}

TEST(DecodeWorker, AModelOrOptionThatDoesNotExistEndsItBeforeItIsReady) {
  const ProgramResult missing = run_program({kBinary, "decode-worker", "no_such_model"});
  EXPECT_EQ(missing.exit_code, 4);
  EXPECT_EQ(missing.out, "");
  const ProgramResult wrong = run_program({kBinary, "decode-worker", kGpt2, "--weights", "int3"});
  EXPECT_EQ(wrong.exit_code, 2) << wrong.err;
}

}  // namespace
}  // namespace kvlab

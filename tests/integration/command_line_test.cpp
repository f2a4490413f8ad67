// The command line's contract with scripts: JSON keys, exit codes, clean streams, interruption.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/fixtures/run_program.h"
#include "tests/fixtures/tiny_model.h"

namespace kvlab {
namespace {

using testing::HasSubstr;
using testing::Not;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

const std::string kBinary = KVLAB_BINARY_DIR "/bin/kvlab";
const std::string kGolden = KVLAB_SOURCE_DIR "/tests/golden";
const std::string kGpt2 = kGolden + "/gpt2_tiny";  // context 128, no tokenizer

ProgramResult kvlab(Words arguments) {
  arguments.insert(arguments.begin(), kBinary);
  ProgramResult result = run_program(arguments);
  EXPECT_THAT(result.err, Not(HasSubstr("terminate called")));
  EXPECT_THAT(result.err, Not(HasSubstr("frame #")));
  return result;
}

// Standard output must be one line of JSON and nothing else.
Json json_of(const ProgramResult& result) {
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1) << result.out;
  return Json::parse(result.out);
}

Words keys_of(const Json& json) {
  Words keys;
  for (const auto& [key, value] : json.items()) keys.push_back(key);
  return keys;  // sorted: nlohmann::json keeps a std::map
}

void expect_refused(const Words& arguments, int code, const std::string& text) {
  const ProgramResult result = kvlab(arguments);
  EXPECT_EQ(result.exit_code, code) << result.err;
  EXPECT_THAT(result.err, HasSubstr(text));
  EXPECT_EQ(result.out, "") << "messages belong on stderr";
}

Words generate_tiny(const Words& more) {
  Words words = {"generate", "--model", kGpt2, "--threads", "1"};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// A model whose 256 tokens are the bytes, so that text can be given and comes out.
class CommandLineText : public testing::Test {
 protected:
  CommandLineText() {
    write_byte_vocabulary(folder_, "bytes");
    model_ = folder_.write("tiny.yaml", tiny_model_yaml(512, 32, "bytes"));
  }
  TemporaryFolder folder_;
  std::string model_;
};

TEST(CommandLine, AloneItPrintsHelpAndExitsWithTwo) {
  const ProgramResult result = kvlab({});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("generate"));
  EXPECT_EQ(result.out, "");
}

TEST(CommandLine, HelpAndVersionGoToStandardOutput) {
  const ProgramResult help = kvlab({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("Examples:"));
  const ProgramResult version = kvlab({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, testing::MatchesRegex("kvlab [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  for (const char* command : {"generate", "score", "tokenize", "memory", "list", "describe",
                              "plugin", "validate", "run", "sweep", "worker", "report", "power",
                              "doctor"}) {
    const ProgramResult result = kvlab({command, "--help"});
    EXPECT_EQ(result.exit_code, 0) << command;
    EXPECT_THAT(result.out, HasSubstr("--help")) << command;
    EXPECT_THAT(help.out, HasSubstr(command));
  }
  EXPECT_THAT(kvlab({"generate", "--help"}).out, HasSubstr("N new tokens come out"));
}

TEST(CommandLine, EachCommandShowsItsOwnExamples) {
  const std::string run = kvlab({"run", "--help"}).out;
  EXPECT_THAT(run, HasSubstr("kvlab run configs/experiments/quickstart.yaml"));
  EXPECT_THAT(run, testing::Not(HasSubstr("kvlab generate")));
  EXPECT_THAT(run, testing::Not(HasSubstr("Exit codes")));
  EXPECT_THAT(kvlab({"doctor", "--help"}).out, testing::Not(HasSubstr("Example")));
  EXPECT_THAT(kvlab({"generate", "--help"}).out, HasSubstr("kvlab generate --model"));
}

TEST(CommandLine, HelpIsACommandAsWell) {
  EXPECT_EQ(kvlab({"help"}).out, kvlab({"--help"}).out);
  EXPECT_EQ(kvlab({"help", "run"}).out, kvlab({"run", "--help"}).out);
  EXPECT_EQ(kvlab({"help", "plugin", "check"}).out, kvlab({"plugin", "check", "--help"}).out);
  const ProgramResult unknown = kvlab({"help", "rum"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("'rum' is no command of kvlab"));
  EXPECT_THAT(unknown.err, HasSubstr("run"));
}

TEST(CommandLine, GenerateJsonHasTheKeysAndTypesThatScriptsRelyOn) {
  const ProgramResult result =
      kvlab(generate_tiny({"--ids", "1, 2,3", "--new-tokens", "6", "--json"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = json_of(result);
  EXPECT_EQ(keys_of(json), (Words{"bytes", "text", "token_ns", "tokens", "ttft_ns"}));
  EXPECT_EQ(keys_of(json.at("bytes")),
            (Words{"metadata", "payload", "peak", "reserved", "scratch", "storage"}));
  for (const auto& [key, value] : json.at("bytes").items()) {
    EXPECT_TRUE(value.is_number_integer()) << key;
  }
  EXPECT_EQ(json.at("tokens").size(), 6u);
  EXPECT_EQ(json.at("token_ns").size(), 5u);
  EXPECT_EQ(json.at("text"), "");
  EXPECT_GT(json.at("ttft_ns").get<int64_t>(), 0);
  for (const Json& gap : json.at("token_ns")) EXPECT_GT(gap.get<int64_t>(), 0);
}

TEST(CommandLine, GenerateSizesAFixedCacheToTheRun) {
  // 3 layers, 6 KV heads of 8, fp32: 2 * 3 * 6 * 8 * 4 bytes per token.
  constexpr int64_t kTokenBytes = 1152;
  const Words base = generate_tiny({"--ids", "1,2,3", "--new-tokens", "6", "--json"});
  const Json bytes = json_of(kvlab(base)).at("bytes");
  EXPECT_EQ(bytes.at("storage"), 8 * kTokenBytes) << "the last token is never fed";
  EXPECT_EQ(bytes.at("payload"), 8 * kTokenBytes);
  const Json prompt_alone =
      json_of(kvlab(generate_tiny({"--ids", "1,2,3", "--new-tokens", "0", "--json"})));
  EXPECT_EQ(prompt_alone.at("bytes").at("storage"), 3 * kTokenBytes);
  Words longer = base;
  longer.insert(longer.end(), {"--max-length", "100"});
  EXPECT_EQ(json_of(kvlab(longer)).at("bytes").at("storage"), 100 * kTokenBytes);
  Words half = base;
  half.insert(half.end(), {"--dtype", "bf16"});
  EXPECT_EQ(json_of(kvlab(half)).at("bytes").at("storage"), 8 * kTokenBytes / 2);
}

TEST(CommandLine, GenerateRunsInt8WeightsWithKernelsAndWithTheLibrary) {
  const auto tokens = [](const Words& more) {
    Words words = generate_tiny({"--ids", "1,2,3", "--new-tokens", "6", "--json"});
    words.insert(words.end(), more.begin(), more.end());
    return json_of(kvlab(words)).at("tokens");
  };
  for (const char* weights : {"f32", "bf16", "int8"}) {
    const Json kernels = tokens({"--weights", weights, "--row-tokens", "64"});
    EXPECT_EQ(kernels.size(), 6u) << weights;
    EXPECT_EQ(tokens({"--weights", weights, "--row-tokens", "-1"}), kernels) << weights;
  }
}

TEST(CommandLine, GenerateTakesZeroAndOneNewTokens) {
  const Json none = json_of(kvlab(generate_tiny({"--ids", "5", "--new-tokens", "0", "--json"})));
  EXPECT_EQ(none.at("tokens").size(), 0u);
  EXPECT_EQ(none.at("token_ns").size(), 0u);
  const Json one = json_of(kvlab(generate_tiny({"--ids", "5", "--new-tokens", "1", "--json"})));
  EXPECT_EQ(one.at("tokens").size(), 1u);
  EXPECT_EQ(one.at("token_ns").size(), 0u);
}

TEST(CommandLine, GenerateFillsTheContextToItsLastPlace) {
  // 3 prompt tokens and 126 new ones need 128 places: the last one is never fed.
  const Json json =
      json_of(kvlab(generate_tiny({"--ids", "1,2,3", "--new-tokens", "126", "--json"})));
  EXPECT_EQ(json.at("tokens").size(), 126u);
  expect_refused(generate_tiny({"--ids", "1,2,3", "--new-tokens", "127", "--json"}), 2,
                 "room for 128");
}

TEST(CommandLine, GenerateRefusesOrStopsWhereTheTextOutgrowsTheContext) {
  expect_refused(generate_tiny({"--ids", "1,2", "--new-tokens", "1000000"}), 2, "--overflow stop");
  const ProgramResult stopped = kvlab(
      generate_tiny({"--ids", "1,2", "--new-tokens", "1000000", "--overflow", "stop", "--json"}));
  EXPECT_EQ(stopped.exit_code, 0) << stopped.err;
  EXPECT_EQ(json_of(stopped).at("tokens").size(), 127u);
  EXPECT_THAT(stopped.err, HasSubstr("stopped at the longest text"));
  expect_refused(generate_tiny({"--ids", "1,2", "--new-tokens", "4", "--max-length", "129"}), 2,
                 "--max-length");
  expect_refused(generate_tiny({"--ids", "1,2", "--new-tokens", "4", "--max-length", "4"}), 2,
                 "room for 4");
}

TEST(CommandLine, GenerateStopsAtStopTokensOnlyWhereAsked) {
  const Json all = json_of(kvlab(generate_tiny({"--ids", "7,9", "--new-tokens", "12", "--json"})));
  const std::string third = std::to_string(all.at("tokens").at(2).get<int>());
  const Json cut = json_of(kvlab(
      generate_tiny({"--ids", "7,9", "--new-tokens", "12", "--json", "--stop-token", third})));
  EXPECT_LE(cut.at("tokens").size(), 3u);
  EXPECT_EQ(cut.at("tokens").back(), all.at("tokens").at(2));
  expect_refused(generate_tiny({"--ids", "1", "--new-tokens", "2", "--stop-token", "99999"}), 2,
                 "outside the vocabulary");
}

TEST(CommandLine, GenerateGivesTheSameTwice) {
  for (const Words& sampling : {Words{}, Words{"--temperature", "0.8", "--top-k", "40", "--top-p",
                                               "0.95", "--seed", "11"}}) {
    Words words = generate_tiny({"--ids", "4,5,6", "--new-tokens", "20", "--json"});
    words.insert(words.end(), sampling.begin(), sampling.end());
    const Json first = json_of(kvlab(words)), second = json_of(kvlab(words));
    EXPECT_EQ(first.at("tokens"), second.at("tokens"));
    EXPECT_EQ(first.at("bytes"), second.at("bytes"));
  }
  const auto sampled = [](const std::string& seed) {
    return json_of(kvlab(generate_tiny({"--ids", "4,5,6", "--new-tokens", "20", "--json",
                                        "--temperature", "2", "--seed", seed})))
        .at("tokens");
  };
  EXPECT_NE(sampled("1"), sampled("2"));
}

TEST(CommandLine, GreedySaysThatItIgnoresASeed) {
  const auto messages = [](const Words& more) {
    Words words = generate_tiny({"--ids", "4", "--new-tokens", "1"});
    words.insert(words.end(), more.begin(), more.end());
    const ProgramResult result = kvlab(words);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.err;
  };
  EXPECT_THAT(messages({"--seed", "3"}), HasSubstr("--seed has no effect"));
  EXPECT_THAT(messages({"--seed", "3", "--top-k", "2"}), Not(HasSubstr("--seed")));
  EXPECT_THAT(messages({}), Not(HasSubstr("--seed")));
}

TEST(CommandLine, WithoutATokenizerIdsAreStreamed) {
  const Words words = {"--ids", "1,2,3", "--new-tokens", "6"};
  Words with_json = words;
  with_json.push_back("--json");
  const Json json = json_of(kvlab(generate_tiny(with_json)));
  std::string wanted;
  for (const Json& token : json.at("tokens")) {
    wanted += (wanted.empty() ? "" : " ") + std::to_string(token.get<int>());
  }
  EXPECT_EQ(kvlab(generate_tiny(words)).out, wanted + "\n");
}

TEST(CommandLine, MissingModelsCachesAndAttentionExitWithFour) {
  const Words tail = {"--ids", "1", "--new-tokens", "1"};
  const auto with = [&](Words head) {
    head.insert(head.begin(), "generate");
    head.insert(head.end(), tail.begin(), tail.end());
    return head;
  };
  expect_refused(with({"--model", "/no/such/model"}), 4, "does not exist");
  expect_refused(with({"--model", "no_such_name"}), 4, "does not exist");
  expect_refused(with({"--model", kGpt2, "--cache", "pagd"}), 4, "Did you mean 'paged'?");
  expect_refused(with({"--model", kGpt2, "--attention", "egaer"}), 4, "Did you mean 'eager'?");
  expect_refused({"describe", "pagd"}, 4, "Did you mean 'paged'?");
  expect_refused({"report", "/no/such/run"}, 4, "does not exist");
  expect_refused({"validate", "/no/such/config.yaml"}, 4, "config.yaml");
  expect_refused({"score", "--model", kGpt2, "--text-file", "/no/such/text"}, 4, "does not exist");
}

TEST(CommandLine, WrongUsageExitsWithTwo) {
  const auto tiny = [](const Words& more) { return generate_tiny(more); };
  expect_refused({"generat"}, 2, "Did you mean 'generate'?");
  expect_refused({"generate", "--new-tokens", "1"}, 2, "--model");
  expect_refused(tiny({"--ids", "1"}), 2, "--new-tokens");
  expect_refused(tiny({"--new-tokens", "1"}), 2, "--prompt or --ids");
  expect_refused(tiny({"--ids", "1", "--prompt", "a", "--new-tokens", "1"}), 2, "--ids");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "-1"}), 2, "--new-tokens");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "many"}), 2, "--new-tokens");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--nonsense"}), 2, "--nonsense");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--threads", "0"}), 2, "--threads");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--dtype", "f16"}), 2, "f32, bf16");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--weights", "int4"}), 2,
                 "Did you mean 'int8'?");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--row-tokens", "-2"}), 2,
                 "--row-tokens");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--temperature", "0"}), 2, "above 0");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--temperature", "inf"}), 2,
                 "a finite number above 0, got inf");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--seed", "-1"}), 2, "got -1");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--top-p", "1.5"}), 2, "at most 1");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--overflow", "wrap"}), 2,
                 "stop or error");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--cache", "paged:block_size=0"}), 2,
                 "block_size");
  expect_refused(tiny({"--ids", "1", "--new-tokens", "1", "--cache", "paged:blok_size=8"}), 2,
                 "Did you mean 'block_size'?");
  expect_refused(tiny({"--prompt", "hello", "--new-tokens", "1"}), 2, "no tokenizer");
  expect_refused({"score", "--model", kGpt2, "--ids", "1"}, 2, "at least 2");
  expect_refused({"score", "--model", kGpt2, "--text-file", kGolden}, 2, "is a folder");
  expect_refused({"list", "cache"}, 2, "Did you mean 'caches'?");
}

TEST(CommandLine, IdListsAreReadStrictly) {
  const auto refused = [](const std::string& ids, const std::string& text) {
    expect_refused(generate_tiny({"--ids", ids, "--new-tokens", "1"}), 2, text);
  };
  refused("", "no tokens");
  refused("1,,2", "character 3");
  refused("1,2,", "character 5");
  refused(",1", "character 1");
  refused("1;2", "character 2");
  refused("-1", "character 1");
  refused("1.5", "character 2");
  refused("0x10", "character 2");
  refused("99999999999999999999", "number at character 1");
  refused("1,2147483648", "number at character 3");
  refused("1,2,211000", "id 211000 (number 3) is outside the vocabulary");
}

TEST(CommandLine, RunsThatFailExitWithOne) {
  // Weights that are not finite are found when the first logits are.
  TemporaryFolder folder;
  std::ifstream config(kGolden + "/llama_gqa_tiny/config.json");
  folder.write("config.json", {std::istreambuf_iterator<char>(config), {}});
  std::ifstream weights(kGolden + "/llama_gqa_tiny/model.safetensors", std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(weights), {}};
  bytes.replace(bytes.size() / 2, bytes.size() / 2, bytes.size() / 2, '\xff');
  folder.write("model.safetensors", bytes);
  // Generating computes the last position's logits alone.
  expect_refused({"generate", "--model", folder.path(), "--ids", "1,2", "--new-tokens", "3"}, 1,
                 "logits are not finite: step 0, row 0, position 1");
  expect_refused({"score", "--model", folder.path(), "--ids", "1,2"}, 1,
                 "logits are not finite: step 0, row 0, position 0");
}

TEST(CommandLine, AFullDiskIsAFailure) {
  const std::string command = kBinary + " list > /dev/full";
  const ProgramResult result = run_program({"/bin/sh", "-c", command});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot be written"));
}

TEST_F(CommandLineText, PromptAndIdsGiveTheSameTokens) {
  const auto run = [&](const std::string& flag, const std::string& value) {
    return json_of(
        kvlab({"generate", "--model", model_, flag, value, "--new-tokens", "24", "--json"}));
  };
  const Json text = run("--prompt", "Hi!"), ids = run("--ids", "72,105,33");
  EXPECT_EQ(text.at("tokens"), ids.at("tokens"));
  EXPECT_EQ(text.at("text"), ids.at("text"));
  // A prompt may look like an option.
  EXPECT_EQ(run("--prompt", "--new").at("tokens"), run("--ids", "45,45,110,101,119").at("tokens"));
}

TEST_F(CommandLineText, TextThatIsNotUtf8DoesNotBreakJson) {
  const ProgramResult result = kvlab({"generate", "--model", model_, "--prompt", "\xff\xfe\xc3",
                                      "--new-tokens", "200", "--temperature", "5", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(json_of(result).at("text").get<std::string>(), HasSubstr("\xEF\xBF\xBD"));
}

TEST_F(CommandLineText, StreamedTextIsTheTextOfItsTokens) {
  const Words words = {"generate", "--model",       model_, "--prompt", "abc", "--new-tokens",
                       "60",       "--temperature", "3",    "--seed",   "2"};
  const std::string streamed = kvlab(words).out;
  Words with_json = words;
  with_json.push_back("--json");
  const Json json = json_of(kvlab(with_json));
  std::string wanted;
  for (const Json& token : json.at("tokens")) {
    wanted += static_cast<char>(token.get<int>());
  }
  EXPECT_EQ(streamed, wanted + "\n");
  EXPECT_EQ(wanted.size(), 60u);
}

TEST_F(CommandLineText, AnEmptyPromptIsRefused) {
  expect_refused({"generate", "--model", model_, "--prompt", "", "--new-tokens", "1"}, 2,
                 "no tokens");
}

TEST_F(CommandLineText, ScoreTakesTextFilesAndIds) {
  const std::string file = folder_.write("text.txt", "abcd");
  const auto run = [&](const Words& input) {
    Words words = {"score", "--model", model_, "--json"};
    words.insert(words.end(), input.begin(), input.end());
    return json_of(kvlab(words));
  };
  const Json ids = run({"--ids", "97 98 99 100"});
  EXPECT_EQ(keys_of(ids), (Words{"mean_nll", "nll", "perplexity"}));
  EXPECT_EQ(ids.at("nll").size(), 3u);
  EXPECT_EQ(run({"--text", "abcd"}), ids);
  EXPECT_EQ(run({"--text-file", file}), ids);
}

TEST_F(CommandLineText, TokenizeGoesThereAndBack) {
  const Words base = {"tokenize", "--vocab", folder_.file("bytes")};
  const auto run = [&](const Words& more) {
    Words words = base;
    words.insert(words.end(), more.begin(), more.end());
    return kvlab(words);
  };
  EXPECT_EQ(json_of(run({"--text", "Hi!", "--json"})), Json({{"ids", {72, 105, 33}}}));
  EXPECT_EQ(run({"--text", "Hi!"}).out, "72 105 33\n");
  EXPECT_EQ(run({"--text", "", "--json"}).out, "{\"ids\":[]}\n");
  EXPECT_EQ(json_of(run({"--ids", "72, 105", "--json"})), Json({{"text", "Hi"}}));
  EXPECT_EQ(run({"--ids", "72 105 33"}).out, "Hi!\n");
  EXPECT_EQ(json_of(run({"--ids", "255", "--json"})), Json({{"text", "\xEF\xBF\xBD"}}));
  EXPECT_EQ(json_of(kvlab({"tokenize", "--model", model_, "--text", "a", "--json"})),
            Json({{"ids", {97}}}));
  const std::string empty = folder_.write("empty.txt", "");
  EXPECT_EQ(json_of(run({"--text-file", empty, "--json"})), Json({{"ids", Json::array()}}));
  expect_refused({"tokenize", "--text", "a"}, 2, "--vocab");
  expect_refused({"tokenize", "--model", kGpt2, "--text", "a"}, 2, "no tokenizer");
  expect_refused({"tokenize", "--vocab", "/no/such", "--text", "a"}, 4, "/no/such");
  Words outside = base;
  outside.insert(outside.end(), {"--ids", "256"});
  expect_refused(outside, 2, "outside the vocabulary of 256");
}

}  // namespace
}  // namespace kvlab

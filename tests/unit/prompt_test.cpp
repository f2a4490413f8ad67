// How a prompt of a config becomes tokens, and what is refused.
#include "kvlab/runtime/prompt.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

using Ids = std::vector<int32_t>;

ConfigReader reader_of(const std::string& text) {
  return ConfigReader(parse_config_text(text, "f.yaml"));
}

PromptSpec prompt(const std::string& text) { return PromptSpec(reader_of(text)); }

// Printable ASCII, one token each: ids 0 (space) to 94 (~).
const Tokenizer& ascii_tokenizer() {
  static const Tokenizer tokenizer([] {
    TokenizerData data;
    data.tokens.push_back("Ġ");
    for (char c = '!'; c <= '~'; ++c) data.tokens.emplace_back(1, c);
    return data;
  }());
  return tokenizer;
}

const TokenSource kNoTokenizer{"bare", nullptr, 64};
const TokenSource kAscii{"ascii", &ascii_tokenizer(), 95};

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "(no UserError)";
}

void expect_contains(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(Prompt, TakesIdsAsTheyAreAndTheyMayRepeat) {
  EXPECT_EQ(prompt("ids: [7, 7, 0, 63, 7]\n").tokens(kNoTokenizer), (Ids{7, 7, 0, 63, 7}));
}

TEST(Prompt, TurnsTextIntoTheTokensOfTheModel) {
  EXPECT_EQ(prompt("text: \"! !\"\n").tokens(kAscii), (Ids{1, 0, 1}));
}

TEST(Prompt, RefusesATextForAModelWithoutTokenizer) {
  const PromptSpec spec = prompt("text: hello\n");
  const std::string message = message_of([&] { (void)spec.tokens(kNoTokenizer); });
  expect_contains(message, "f.yaml:1:");
  expect_contains(message, "model 'bare' has no tokenizer");
  expect_contains(message, "give ids");
}

TEST(Prompt, RefusesTokensOfATokenizerThatIsLargerThanTheModel) {
  const PromptSpec spec = prompt("text: \"a~\"\n");
  const TokenSource small{"small", &ascii_tokenizer(), 94};
  expect_contains(message_of([&] { (void)spec.tokens(small); }),
                  "gives token 94, outside the vocabulary of 94");
}

TEST(Prompt, IsExactlyOneKind) {
  expect_contains(message_of([] { prompt("tokens: 3\n"); }), "got 0 of them");
  const std::string message = message_of([] { prompt("ids: [1]\nrandom: 4\n"); });
  expect_contains(message, "f.yaml:1:");
  expect_contains(message, "one of text, file, jsonl, ids and random, got 2 of them");
}

// A file with these lines, gone with the object.
class LinesFile {
 public:
  explicit LinesFile(const std::string& lines)
      : path_((std::filesystem::temp_directory_path() /
               ("kvlab-prompts-" + std::to_string(getpid()) + "-" + std::to_string(++made_)))
                  .string()) {
    std::ofstream(path_, std::ios::binary) << lines;
  }
  ~LinesFile() { std::filesystem::remove(path_); }
  LinesFile(const LinesFile&) = delete;
  LinesFile& operator=(const LinesFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  static inline int made_ = 0;
  std::string path_;
};

TEST(Prompt, TakesALineOfAJsonLinesFile) {
  const LinesFile file("{\"text\": \"! !\"}\n{\"ids\": [7, 7, 4], \"who\": 3}\n");
  const auto line = [&](const std::string& rest) {
    return prompt("jsonl: " + file.path() + "\n" + rest);
  };
  EXPECT_EQ(line("line: 1\n").tokens(kAscii), (Ids{1, 0, 1}));
  EXPECT_EQ(line("line: 2\n").tokens(kNoTokenizer), (Ids{7, 7, 4}));
  EXPECT_EQ(line("line: 2\ntokens: 2\n").tokens(kNoTokenizer), (Ids{7, 7}));
  expect_contains(message_of([&] { (void)line("line: 1\n").tokens(kNoTokenizer); }),
                  file.path() + ":1: model 'bare' has no tokenizer");
  expect_contains(message_of([&] { line("line: 3\n"); }), "the file has 2 lines, wanted line 3");
  expect_contains(message_of([&] { line(""); }), "has 2 lines; name one");
  const LinesFile other("{\"say\": \"!\"}\n");
  EXPECT_EQ(prompt("jsonl: " + other.path() + "\nfield: say\n").tokens(kAscii), (Ids{1}));
}

TEST(Prompt, ListsEveryLineOfAJsonLinesFile) {
  const LinesFile file("{\"ids\": [1]}\n{\"ids\": [2, 3]}\n");
  ConfigReader one = reader_of("prompt: {jsonl: " + file.path() + "}\n");
  const auto prompts = read_prompts(one);
  ASSERT_EQ(prompts.size(), 2u);
  EXPECT_EQ(prompts[0].tokens(kNoTokenizer), (Ids{1}));
  EXPECT_EQ(prompts[1].tokens(kNoTokenizer), (Ids{2, 3}));
  ConfigReader list =
      reader_of("prompt: [{ids: [9]}, {jsonl: " + file.path() + "}, {jsonl: " + file.path() +
                ", line: 2}]\n");
  EXPECT_EQ(read_prompts(list).size(), 4u);
}

TEST(Prompt, NamesTheLineOfAJsonLinesFileThatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{\"ids\": [1]}\n\n", ":2: the line is empty"},
      {"{\"ids\": [1]}\n{\"ids\": [1}\n", ":2: the line is no JSON object"},
      {"[1]\n", ":1: the line is no JSON object"},
      {"{\"ids\": []}\n", ":1: 'ids' is an empty list"},
      {"{\"ids\": [1.5]}\n", ":1: 'ids' wants token ids, which are whole numbers, got 1.5"},
      {"{\"ids\": \"a\"}\n", ":1: 'ids' is a list of token ids, got string"},
      {"{\"text\": 4}\n", ":1: 'text' is a text, got number"},
      {"{\"text\": \"\"}\n", ":1: 'text' is empty"},
      {"{\"text\": \"a\", \"ids\": [1]}\n", ":1: wanted one of 'text' and 'ids', got both"},
      {"", "the file is empty"}};
  for (const auto& [lines, expected] : cases) {
    const LinesFile file(lines);
    expect_contains(message_of([&] { prompt("jsonl: " + file.path() + "\nline: 1\n"); }),
                    file.path());
    expect_contains(message_of([&] { prompt("jsonl: " + file.path() + "\nline: 1\n"); }), expected);
  }
  const LinesFile outside("{\"ids\": [5]}\n{\"ids\": [64]}\n");
  const PromptSpec spec = prompt("jsonl: " + outside.path() + "\nline: 2\n");
  expect_contains(message_of([&] { (void)spec.tokens(kNoTokenizer); }),
                  ":2: a token must lie inside the vocabulary of 64 tokens, got 64");
}

TEST(Prompt, ReadsTheTurnsOfAConversation) {
  const LinesFile file("{\"turns\": [\"!\", [5, 6]]}\n");
  const ConversationSpec spec(reader_of("jsonl: " + file.path() + "\nline: 1\n"));
  EXPECT_EQ(spec.turns(kAscii), (std::vector<Ids>{{1}, {5, 6}}));
  expect_contains(message_of([&] { (void)spec.turns(kNoTokenizer); }), ":1: turns.0: model 'bare'");
  const LinesFile bad("{\"turns\": []}\n");
  expect_contains(
      message_of([&] { ConversationSpec(reader_of("jsonl: " + bad.path() + "\nline: 1\n")); }),
      ":1: wanted 'turns'");
}

TEST(Prompt, RefusesKeysThatNobodyReads) {
  expect_contains(message_of([] { prompt("ids: [1]\nseed: 4\n"); }), "seed");
}

TEST(Prompt, CutsToItsTokens) {
  EXPECT_EQ(prompt("ids: [4, 5, 6, 7]\ntokens: 2\n").tokens(kNoTokenizer), (Ids{4, 5}));
  EXPECT_EQ(prompt("ids: [4, 5, 6, 7]\ntokens: 4\n").tokens(kNoTokenizer), (Ids{4, 5, 6, 7}));
}

TEST(Prompt, RefusesFewerTokensThanItAsksFor) {
  const PromptSpec spec = prompt("ids: [4, 5]\ntokens: 3\n");
  const std::string message = message_of([&] { (void)spec.tokens(kNoTokenizer); });
  expect_contains(message, "f.yaml:2:");
  expect_contains(message, "the prompt has 2 tokens for model 'bare', wanted 3");
}

TEST(Prompt, RefusesAnIdOutsideTheVocabularyAtItsPlace) {
  for (const char* id : {"64", "-1"}) {
    const PromptSpec spec = prompt(std::string("ids: [5, ") + id + "]\n");
    const std::string message = message_of([&] { (void)spec.tokens(kNoTokenizer); });
    expect_contains(message, "f.yaml:1:10: ids.1: ");
    expect_contains(message, std::string("inside the vocabulary of 64 tokens, got ") + id);
  }
}

TEST(Prompt, RefusesIdsThatAreNoWholeNumbers) {
  for (const char* id : {"1.5", "a", "\"3\"", "[3]", "99999999999"}) {
    const PromptSpec spec = prompt(std::string("ids: [5, ") + id + "]\n");
    expect_contains(message_of([&] { (void)spec.tokens(kNoTokenizer); }), "wanted a token id");
  }
  for (const char* list : {"[]", "3", "{a: 1}"}) {
    const PromptSpec spec = prompt(std::string("ids: ") + list + "\n");
    expect_contains(message_of([&] { (void)spec.tokens(kNoTokenizer); }),
                    "wanted a list of token ids");
  }
}

TEST(Prompt, ARandomOneNeedsItsLength) {
  const PromptSpec spec = prompt("random: 5\n");
  expect_contains(message_of([&] { (void)spec.tokens(kNoTokenizer); }),
                  "a random prompt needs tokens");
}

TEST(Prompt, ARandomOneRepeatsFromItsSeedInsideTheVocabulary) {
  const Ids first = prompt("random: 5\ntokens: 200\n").tokens(kNoTokenizer);
  EXPECT_EQ(first.size(), 200u);
  for (const int32_t token : first) {
    EXPECT_GE(token, 0);
    EXPECT_LT(token, 64);
  }
  EXPECT_EQ(prompt("random: 5\ntokens: 200\n").tokens(kNoTokenizer), first);
  EXPECT_NE(prompt("random: 6\ntokens: 200\n").tokens(kNoTokenizer), first);
}

TEST(Prompt, FillsALengthByRepeatingAndStartsAtAnOffset) {
  const PromptSpec spec = prompt("ids: [4, 5, 6]\n");
  EXPECT_EQ(spec.tokens(kNoTokenizer, 2, 0), (Ids{4, 5}));
  EXPECT_EQ(spec.tokens(kNoTokenizer, 7, 0), (Ids{4, 5, 6, 4, 5, 6, 4}));
  EXPECT_EQ(spec.tokens(kNoTokenizer, 4, 1), (Ids{5, 6, 4, 5}));
  EXPECT_EQ(spec.tokens(kNoTokenizer, 2, 5), (Ids{6, 4})) << "an offset past the end goes round";
  EXPECT_EQ(prompt("ids: [4, 5, 6]\ntokens: 2\n").tokens(kNoTokenizer, 3, 0), (Ids{4, 5, 4}))
      << "repeats what `tokens` left";
}

TEST(Prompt, ARandomOneDrawsAnotherTextForEachOffset) {
  const PromptSpec spec = prompt("random: 5\n");
  const Ids first = spec.tokens(kNoTokenizer, 50, 0);
  EXPECT_EQ(first.size(), 50u);
  EXPECT_EQ(spec.tokens(kNoTokenizer, 50, 0), first);
  EXPECT_NE(spec.tokens(kNoTokenizer, 50, 1), first);
  const Ids longer = spec.tokens(kNoTokenizer, 60, 0);
  EXPECT_EQ(Ids(longer.begin(), longer.begin() + 50), first) << "a longer text begins alike";
}

TEST(Prompt, ReadsOneMapOrOneMapPerRow) {
  ConfigReader one = reader_of("prompt: {ids: [3]}\n");
  const std::vector<PromptSpec> single = read_prompts(one);
  ASSERT_EQ(single.size(), 1u);
  EXPECT_EQ(single[0].tokens(kNoTokenizer), Ids{3});

  ConfigReader rows = reader_of("prompt: [{ids: [3]}, {ids: [4, 4]}]\n");
  const std::vector<PromptSpec> several = read_prompts(rows);
  ASSERT_EQ(several.size(), 2u);
  EXPECT_EQ(several[1].tokens(kNoTokenizer), (Ids{4, 4}));
  rows.finish();
}

}  // namespace
}  // namespace kvlab

// Byte-level BPE against Hugging Face's ids for both vocabularies, and what the tokenizer refuses.
#include "kvlab/model/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "kvlab/core/error.h"
#include "kvlab/model/checkpoint.h"

namespace kvlab {
namespace {

using Ids = std::vector<int32_t>;
using Merges = std::vector<std::pair<std::string, std::string>>;

const std::string kRoot = KVLAB_SOURCE_DIR;

std::string needed(const std::string& path) {
  if (!std::filesystem::exists(kRoot + path))
    throw std::runtime_error(kRoot + path + " is missing: run tools/setup");
  return kRoot + path;
}

TokenizerData smollm2_data() {
  const auto data = read_checkpoint_tokenizer(
      needed("/.deps/models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf"));
  if (!data) throw std::runtime_error("the SmolLM2 file is read as having no tokenizer");
  return *data;
}

const Tokenizer& gpt2() {
  needed("/.deps/vocab/gpt2/encoder.json");
  needed("/.deps/vocab/gpt2/vocab.bpe");
  static const Tokenizer tokenizer(read_tokenizer_folder(kRoot + "/.deps/vocab/gpt2"));
  return tokenizer;
}

const Tokenizer& smollm2() {
  static const Tokenizer tokenizer(smollm2_data());
  return tokenizer;
}

// SmolLM2's vocabulary with the digit stage that a tokenizer.json describes.
const Tokenizer& smollm2_with_every_numeric_alone() {
  static const Tokenizer tokenizer([] {
    TokenizerData data = smollm2_data();
    data.pre_tokenizer = PreTokenizer::digits;
    return data;
  }());
  return tokenizer;
}

nlohmann::json reference_cases() {
  std::ifstream file(needed("/tests/golden/tokenizer_cases.json"));
  return nlohmann::json::parse(file);
}

// The numeric characters above ASCII that the reference cases hold.
const std::vector<std::string> kWideNumerics = {"½", "²", "٣", "Ⅳ"};

bool has_wide_numeric(const std::string& text) {
  return std::any_of(kWideNumerics.begin(), kWideNumerics.end(), [&](const std::string& numeric) {
    return text.find(numeric) != std::string::npos;
  });
}

// The definition of the digit stage, written out: numeric characters alone, the rest by GPT-2.
Ids encode_between_numerics(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::string> numerics = kWideNumerics;
  for (char digit = '0'; digit <= '9'; ++digit) numerics.emplace_back(1, digit);
  Ids ids;
  const auto append = [&](const std::string& piece) {
    const Ids more = tokenizer.encode(piece);
    ids.insert(ids.end(), more.begin(), more.end());
  };
  std::string between;
  for (size_t i = 0; i < text.size();) {
    const auto numeric =
        std::find_if(numerics.begin(), numerics.end(),
                     [&](const std::string& one) { return text.compare(i, one.size(), one) == 0; });
    if (numeric == numerics.end()) {
      between += text[i++];
      continue;
    }
    append(between);
    between.clear();
    append(*numeric);
    i += numeric->size();
  }
  append(between);
  return ids;
}

// Printable ASCII, one token each: ids 0 (space) to 94 (~).
TokenizerData ascii_data() {
  TokenizerData data;
  data.tokens.push_back("Ġ");
  for (char c = '!'; c <= '~'; ++c) data.tokens.emplace_back(1, c);
  return data;
}

int32_t ascii_id(char c) { return c - ' '; }

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "(no UserError)";
}

std::string refusal_of(const TokenizerData& data) {
  return message_of([&] { Tokenizer tokenizer(data); });
}

struct File {
  std::string name;
  std::string text;
};

// A folder with the given files, gone again at the end.
class Folder {
 public:
  explicit Folder(std::initializer_list<File> files) {
    static int count = 0;
    path_ = std::filesystem::temp_directory_path() /
            ("kvlab_tokenizer_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
    for (const auto& [name, text] : files) std::ofstream(path_ / name, std::ios::binary) << text;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string path() const { return path_.string(); }
  std::string refusal() const {
    return message_of([&] { read_tokenizer_folder(path()); });
  }

 private:
  std::filesystem::path path_;
};

nlohmann::json byte_level() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
}

// A small tokenizer.json that can be read: printable ASCII, "he", and one added token.
nlohmann::json small_json() {
  nlohmann::json vocabulary;
  const TokenizerData ascii = ascii_data();
  for (size_t id = 0; id < ascii.tokens.size(); ++id) vocabulary[ascii.tokens[id]] = id;
  vocabulary["he"] = 95;
  return {{"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", {"h e"}}}},
          {"pre_tokenizer", byte_level()},
          {"normalizer", nullptr},
          {"added_tokens", {{{"id", 96}, {"content", "<|a b|>"}, {"special", true}}}}};
}

std::string json_refusal(const nlohmann::json& json) {
  return Folder({{"tokenizer.json", json.dump()}}).refusal();
}

#define EXPECT_CONTAINS(text, part) \
  EXPECT_NE((text).find(part), std::string::npos) << "text is: " << (text)

TEST(Tokenizer, Gpt2MatchesEveryReferenceCase) {
  const auto cases = reference_cases();
  ASSERT_EQ(cases.size(), 130u);
  for (const auto& one : cases) {
    const auto text = one["text"].get<std::string>();
    EXPECT_EQ(gpt2().encode(text), one["gpt2"].get<Ids>()) << one["text"];
    EXPECT_EQ(gpt2().decode(gpt2().encode(text)), text) << one["text"];
  }
}

TEST(Tokenizer, Smollm2MatchesEveryReferenceCase) {
  const auto cases = reference_cases();
  ASSERT_EQ(cases.size(), 130u);
  for (const auto& one : cases) {
    const auto text = one["text"].get<std::string>();
    EXPECT_EQ(smollm2().encode(text), one["smollm2"].get<Ids>()) << one["text"];
    EXPECT_EQ(smollm2().decode(smollm2().encode(text)), text) << one["text"];
  }
}

// A tokenizer.json with Digits(individual_digits) cuts every numeric character out, which differs
// from the GGUF's reference only for those beyond ASCII; it must match that stage written out.
TEST(Tokenizer, DigitStageOnlyChangesNumericCharactersBeyondAscii) {
  int different = 0;
  for (const auto& one : reference_cases()) {
    const auto text = one["text"].get<std::string>();
    const Ids ids = smollm2_with_every_numeric_alone().encode(text);
    EXPECT_EQ(ids, encode_between_numerics(smollm2(), text)) << one["text"];
    if (!has_wide_numeric(text)) {
      EXPECT_EQ(ids, one["smollm2"].get<Ids>()) << one["text"];
    }
    different += ids != one["smollm2"].get<Ids>();
  }
  EXPECT_EQ(different, 9);
}

// Ids from Hugging Face tokenizers 0.23.3 with Digits(individual_digits) and ByteLevel.
TEST(Tokenizer, DigitStageCutsEveryNumericCharacterOut) {
  const Tokenizer& tokenizer = smollm2_with_every_numeric_alone();
  EXPECT_EQ(tokenizer.encode("½ ² ٣ Ⅳ"),
            (Ids{16738, 216, 19133, 216, 164, 113, 216, 173, 223, 113}));
  EXPECT_EQ(tokenizer.encode("²³"), (Ids{19133, 39050}));
  EXPECT_EQ(tokenizer.encode(" 67 8"), (Ids{216, 38, 39, 216, 40}));
}

TEST(Tokenizer, DigitStagesKeepWhiteSpaceBeforeADigitWhole) {
  TokenizerData data = ascii_data();
  data.tokens.push_back("ĠĠ");
  data.merges = {{"Ġ", "Ġ"}};
  const int32_t space = ascii_id(' '), pair = 95;
  for (const PreTokenizer stage : {PreTokenizer::smollm, PreTokenizer::digits}) {
    data.pre_tokenizer = stage;
    EXPECT_EQ(Tokenizer(data).encode("a  5  b"),
              (Ids{ascii_id('a'), pair, ascii_id('5'), space, space, ascii_id('b')}));
  }
  data.pre_tokenizer = PreTokenizer::gpt2;
  EXPECT_EQ(Tokenizer(data).encode("a  5"), (Ids{ascii_id('a'), space, space, ascii_id('5')}));
}

TEST(Tokenizer, Smollm2RecognisesItsControlTokens) {
  EXPECT_EQ(smollm2_data().special.size(), 17u);
  EXPECT_EQ(smollm2().encode("<|im_start|><|im_end|><repo_name>"), (Ids{1, 2, 3}));
  EXPECT_EQ(smollm2().decode(Ids{1, 2, 3}), "<|im_start|><|im_end|><repo_name>");
}

TEST(Tokenizer, Gpt2TakesEndOfTextAsPlainTextAndDecodesIt) {
  const Ids ids = gpt2().encode("<|endoftext|>");
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 50256), 0);
  EXPECT_EQ(gpt2().decode(Ids{50256}), "<|endoftext|>");
  EXPECT_EQ(gpt2().vocabulary(), 50257);
  EXPECT_EQ(smollm2().vocabulary(), 49152);
}

TEST(Tokenizer, TakesTheLongestOfSpecialTokensThatStartTogether) {
  TokenizerData data = ascii_data();
  data.tokens.insert(data.tokens.end(), {"<a>", "<a><b>", "a><"});
  data.special = {95, 96, 97};
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("<a><b><a>"), (Ids{96, 95}));
  EXPECT_EQ(tokenizer.encode("<a><"), (Ids{95, ascii_id('<')}));
}

TEST(Tokenizer, WritesASpecialTokenAsInTheTextEvenWithSpacesAndUnicode) {
  TokenizerData data = ascii_data();
  data.tokens.push_back("<日 x>");
  data.special = {95};
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("a<日 x>b"), (Ids{ascii_id('a'), 95, ascii_id('b')}));
  EXPECT_EQ(tokenizer.decode(Ids{95}), "<日 x>");
}

TEST(Tokenizer, MergesTheBestRankFirstAndTheLeftmostOfEquals) {
  TokenizerData data = ascii_data();
  data.tokens.insert(data.tokens.end(), {"bc", "ab", "aa"});
  data.merges = {{"b", "c"}, {"a", "b"}, {"a", "a"}};
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("abc"), (Ids{ascii_id('a'), 95}));
  EXPECT_EQ(tokenizer.encode("aaa"), (Ids{97, ascii_id('a')}));
}

TEST(Tokenizer, EmptyTextHasNoIds) {
  EXPECT_EQ(gpt2().encode(""), Ids{});
  EXPECT_EQ(smollm2().encode(""), Ids{});
  EXPECT_EQ(gpt2().decode({}), "");
}

TEST(Tokenizer, EncodesZeroBytes) {
  const std::string text("a\0b\0", 4);
  EXPECT_EQ(gpt2().encode(text), (Ids{64, 188, 65, 188}));
  EXPECT_EQ(gpt2().decode(gpt2().encode(text)), text);
  EXPECT_EQ(smollm2().decode(smollm2().encode(text)), text);
}

TEST(Tokenizer, RoundTripsArbitraryBytes) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    std::string text(random() % 200, '\0');
    // Few distinct bytes, many of them leads and continuations, make near-valid UTF-8 likely.
    const std::string likely = " a1\xC3\xA9\xE2\x82\xAC\xF0\x9F\xED\xA0\x80\xF4\x90\xC0\xFF";
    for (char& c : text)
      c = random() % 2 ? likely[random() % likely.size()] : static_cast<char>(random());
    ASSERT_EQ(gpt2().decode(gpt2().encode(text)), text);
  }
}

TEST(Tokenizer, MakesEveryInvalidByteAWordOfItsOwn) {
  const auto single = [](char byte) { return gpt2().encode(std::string(1, byte)).at(0); };
  // A cut character, a surrogate and an overlong form: one id for every byte, none merged.
  for (const std::string bytes : {"\xE2\x82", "\xED\xA0\x80", "\xC0\xAF", "\xF4\x90\x80\x80"}) {
    Ids expected = gpt2().encode("is");
    for (const char byte : bytes) expected.push_back(single(byte));
    // The text behind starts anew, as if nothing stood before it.
    const Ids rest = gpt2().encode(" it");
    expected.insert(expected.end(), rest.begin(), rest.end());
    EXPECT_EQ(gpt2().encode("is" + bytes + " it"), expected);
  }
  // A valid character between invalid bytes is still merged.
  EXPECT_EQ(gpt2().encode("\xFF\xC3\xA9\xFF"),
            (Ids{single('\xFF'), gpt2().encode("é").at(0), single('\xFF')}));
}

TEST(Tokenizer, RefusesAByteThatTheVocabularyCannotWrite) {
  EXPECT_EQ(
      message_of([] { smollm2().encode("ab\xFF"); }),
      "[model.tokenizer.encode] byte 0xff at offset 2 has no token in this vocabulary; remove "
      "it from the text");
}

TEST(Tokenizer, TakesTheMongolianVowelSeparatorForNoWhiteSpace) {
  EXPECT_EQ(gpt2().encode(" \u180Ea"), (Ids{28053, 254, 236, 64}));
}

// Quadratic merging would need 10^10 steps and more here, so this test would not come back.
TEST(Tokenizer, LongWordsTakeNoQuadraticTime) {
  for (const std::string unit : {"a", " ", "\n", "7", "!", "é", "\xFF", "ab"}) {
    std::string text;
    while (text.size() < 400'000) text += unit;
    ASSERT_EQ(gpt2().decode(gpt2().encode(text)), text) << unit;
    if (unit == "\xFF") continue;
    ASSERT_EQ(smollm2().decode(smollm2().encode(text)), text) << unit;
  }
}

TEST(Tokenizer, EncodesFromManyThreadsAtOnce) {
  const std::string text = "The quick brown fox, 12 times: naïve café \xFF!";
  const Ids expected = gpt2().encode(text);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += gpt2().encode(text) != expected;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Tokenizer, RefusesAnIdOutsideTheVocabularyOnDecode) {
  const Tokenizer tokenizer(ascii_data());
  EXPECT_EQ(message_of([&] {
              tokenizer.decode(Ids{0, 95});
            }),
            "[model.tokenizer.decode] an id is at least 0 and below 95, got 95");
  EXPECT_EQ(message_of([&] { tokenizer.decode(Ids{-1}); }),
            "[model.tokenizer.decode] an id is at least 0 and below 95, got -1");
}

TEST(Tokenizer, RefusesAMergeWhosePartOrResultIsNoToken) {
  TokenizerData data = ascii_data();
  data.merges = {{"a", "b"}};
  EXPECT_EQ(refusal_of(data),
            "[model.tokenizer.open] parts and result of a merge are tokens, merge 0 ('a' + 'b') "
            "needs 'ab'");
  data.tokens.push_back("axy");
  data.merges = {{"a", "xy"}};
  EXPECT_CONTAINS(refusal_of(data), "needs 'xy'");
}

TEST(Tokenizer, RefusesAMergeTwice) {
  TokenizerData data = ascii_data();
  data.tokens.push_back("ab");
  data.merges = {{"a", "b"}, {"a", "b"}};
  EXPECT_CONTAINS(refusal_of(data), "merge 1 ('a' + 'b') is a repetition");
}

TEST(Tokenizer, RefusesATokenTwice) {
  TokenizerData data = ascii_data();
  data.tokens.push_back("A");
  EXPECT_EQ(refusal_of(data),
            "[model.tokenizer.open] a token stands in the vocabulary once, 'A' has the ids 33 and "
            "95");
}

TEST(Tokenizer, RefusesAVocabularyWithoutAPrintableByte) {
  TokenizerData data = ascii_data();
  data.tokens.pop_back();
  EXPECT_EQ(refusal_of(data),
            "[model.tokenizer.open] every printable ASCII byte has a token, 0x7e has none; is this "
            "a byte-level vocabulary?");
}

TEST(Tokenizer, RefusesATokenOutsideTheByteAlphabet) {
  for (const std::string token : {"a b", "日", "\xFF"}) {
    TokenizerData data = ascii_data();
    data.tokens.push_back(token);
    EXPECT_CONTAINS(refusal_of(data), "outside the byte alphabet");
  }
}

TEST(Tokenizer, RefusesASpecialIdOutsideTheVocabulary) {
  TokenizerData data = ascii_data();
  data.special = {95};
  EXPECT_EQ(refusal_of(data),
            "[model.tokenizer.open] a special id is at least 0 and below 95, got 95");
}

TEST(Tokenizer, ReadsATokenizerJson) {
  nlohmann::json json = small_json();
  const Folder folder({{"tokenizer.json", json.dump()}});
  const TokenizerData data = read_tokenizer_folder(folder.path());
  EXPECT_EQ(data.pre_tokenizer, PreTokenizer::gpt2);
  EXPECT_EQ(data.special, (Ids{96}));
  EXPECT_EQ(data.merges, (Merges{{"h", "e"}}));
  const Tokenizer tokenizer(data);
  EXPECT_EQ(tokenizer.encode("he<|a b|>"), (Ids{95, 96}));
  EXPECT_EQ(tokenizer.decode(Ids{95, 96}), "he<|a b|>");
}

TEST(Tokenizer, ReadsMergesWrittenAsPairs) {
  nlohmann::json json = small_json();
  json["model"]["merges"] = nlohmann::json::array({nlohmann::json::array({"h", "e"})});
  const Folder folder({{"tokenizer.json", json.dump()}});
  EXPECT_EQ(read_tokenizer_folder(folder.path()).merges, (Merges{{"h", "e"}}));
}

TEST(Tokenizer, DetectsTheDigitStageOfATokenizerJson) {
  nlohmann::json json = small_json();
  const nlohmann::json digits = {{"type", "Digits"}, {"individual_digits", true}};
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {digits, byte_level()}}};
  const Folder folder({{"tokenizer.json", json.dump()}});
  EXPECT_EQ(read_tokenizer_folder(folder.path()).pre_tokenizer, PreTokenizer::digits);
}

TEST(Tokenizer, RefusesByNameWhatItDoesNotImplement) {
  const auto refusal = [](const char* pointer, const nlohmann::json& value) {
    nlohmann::json json = small_json();
    json[nlohmann::json::json_pointer(pointer)] = value;
    return json_refusal(json);
  };
  EXPECT_CONTAINS(refusal("/model/type", "Unigram"), "model type Unigram is not implemented");
  EXPECT_CONTAINS(refusal("/normalizer", {{"type", "NFC"}}), "normalizer NFC is not implemented");
  EXPECT_CONTAINS(refusal("/pre_tokenizer", {{"type", "Metaspace"}}), "pre_tokenizer Metaspace");
  EXPECT_CONTAINS(refusal("/pre_tokenizer", nullptr), "pre_tokenizer null");
  const nlohmann::json split = {{"type", "Split"}}, digits = {{"type", "Digits"}};
  EXPECT_CONTAINS(
      refusal("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, byte_level()}}}),
      "Sequence of Split, ByteLevel");
  EXPECT_CONTAINS(
      refusal("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {digits, byte_level()}}}),
      "individual_digits = false");
  EXPECT_CONTAINS(refusal("/pre_tokenizer/add_prefix_space", true), "add_prefix_space = true");
  EXPECT_CONTAINS(refusal("/pre_tokenizer/use_regex", false), "use_regex = false");
  EXPECT_CONTAINS(refusal("/model/ignore_merges", true), "ignore_merges = true");
  EXPECT_CONTAINS(refusal("/model/byte_fallback", true), "byte_fallback = true");
  EXPECT_CONTAINS(refusal("/model/dropout", 0.1), "dropout = 0.1");
  EXPECT_CONTAINS(refusal("/added_tokens/0/lstrip", true), "'<|a b|>': lstrip = true");
}

TEST(Tokenizer, RefusesATokenizerJsonThatContradictsItself) {
  nlohmann::json json = small_json();
  json["model"]["vocab"]["x y"] = 98;
  EXPECT_CONTAINS(json_refusal(json), "has none for 97");
  json["model"]["vocab"]["x y"] = 3;
  EXPECT_CONTAINS(json_refusal(json), "gives 3 to");
  json["model"]["vocab"]["x y"] = -1;
  EXPECT_CONTAINS(json_refusal(json), "'x y' the id -1");
  json["model"]["vocab"] = 7;
  EXPECT_CONTAINS(json_refusal(json), "is an object of token: id");
  json = small_json();
  json["model"]["merges"] = {"h  e"};
  EXPECT_CONTAINS(json_refusal(json), "a merge is two tokens with a space between");
  json["model"]["merges"] = nlohmann::json::array({{"h", "e", "l"}});
  EXPECT_CONTAINS(json_refusal(json), "a merge is text or two tokens");
  json["model"].erase("merges");
  EXPECT_CONTAINS(json_refusal(json), "not a tokenizer.json as expected");
}

TEST(Tokenizer, RefusesBrokenJsonWithTheNameOfTheFile) {
  const Folder whole({{"tokenizer.json", "{\"model\": "}});
  EXPECT_CONTAINS(whole.refusal(), whole.path() + "/tokenizer.json: not valid UTF-8 JSON");
  const Folder pair({{"encoder.json", "{"}, {"vocab.bpe", "a b\n"}});
  EXPECT_CONTAINS(pair.refusal(), pair.path() + "/encoder.json: not valid UTF-8 JSON");
  const Folder twice({{"encoder.json", R"({"a": 0, "b": 1, "a": 0})"}, {"vocab.bpe", ""}});
  EXPECT_CONTAINS(twice.refusal(), "stands twice in one JSON object");
}

TEST(Tokenizer, ReadsBothFilePairsOfGpt2) {
  for (const auto& [vocabulary, merges] :
       {std::pair{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}}) {
    const Folder folder(
        {{vocabulary, R"({"a": 0, "b": 1, "ab": 2})"}, {merges, "#version: 0.2\r\na b\r\n\n"}});
    const TokenizerData data = read_tokenizer_folder(folder.path());
    EXPECT_EQ(data.tokens, (std::vector<std::string>{"a", "b", "ab"}));
    EXPECT_EQ(data.merges, (Merges{{"a", "b"}}));
    EXPECT_TRUE(data.special.empty());
  }
}

TEST(Tokenizer, NamesTheLineOfABrokenMerge) {
  const Folder folder({{"encoder.json", R"({"a": 0})"}, {"vocab.bpe", "#version: 0.2\na b\nab\n"}});
  EXPECT_CONTAINS(folder.refusal(), folder.path() + "/vocab.bpe:3 has 'ab'");
}

TEST(Tokenizer, SaysWhichFilesAreMissing) {
  EXPECT_THROW(read_tokenizer_folder("/nonexistent/folder"), MissingError);
  EXPECT_THROW(read_tokenizer_folder(Folder({}).path()), MissingError);
  const Folder half({{"vocab.json", "{}"}});
  EXPECT_THROW(read_tokenizer_folder(half.path()), MissingError);
  EXPECT_CONTAINS(half.refusal(), "vocab.json is there without merges.txt");
}

TEST(Tokenizer, FindsTheCompletePartOfStreamedUtf8) {
  const std::vector<std::pair<std::string, size_t>> cases = {
      {"", 0},
      {"abc", 3},
      {"a\xC3", 1},
      {"a\xC3\xA9", 3},
      {"\xE2\x82", 0},
      {"\xE2\x82\xAC", 3},
      {"a\xF0\x9F\x98", 1},
      {"a\xF0\x9F\x98\x80", 5},
      {"x\xF0", 1},
      {"\xF0\x9F\xE2", 2},
      // What nothing can complete is not waited for.
      {"\x80\x80", 2},
      {"\xFF", 1},
      {"\xE0\x80", 2},
      {"\xED\xA0", 2},
      {"\xF4\x90", 2},
      {"\xC0", 1}};
  for (const auto& [bytes, length] : cases)
    EXPECT_EQ(complete_utf8_prefix(bytes), length) << testing::PrintToString(bytes);
}

TEST(Tokenizer, StreamsTokensThatCutCharacters) {
  const std::string text = "日本語 😀 café";
  std::string pending, shown;
  for (const int32_t id : gpt2().encode(text)) {
    pending += gpt2().decode(Ids{id});
    const size_t complete = complete_utf8_prefix(pending);
    shown += pending.substr(0, complete);
    pending.erase(0, complete);
  }
  EXPECT_EQ(shown, text);
  EXPECT_EQ(pending, "");
}

}  // namespace
}  // namespace kvlab

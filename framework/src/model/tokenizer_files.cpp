// Vocabulary files: `tokenizer.json` of Hugging Face and the two-file layouts of GPT-2.
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <sstream>

#include <nlohmann/json.hpp>

#include "kvlab/core/error.h"
#include "kvlab/model/tensor_file.h"
#include "kvlab/model/tokenizer.h"
#include "strict_json.h"

namespace kvlab {

namespace {

using Json = nlohmann::json;
using Path = std::filesystem::path;

constexpr const char* kOperation = "model.tokenizer.read";
constexpr const char* kRead = "[model.tokenizer.read] ";

std::string read_text(const Path& path) {
  const MappedFile file(path.string());
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

// Puts `token` at `id`, which must still be free.
void place(std::vector<std::optional<std::string>>& tokens, const std::string& token,
           const Json& id, const Path& path) {
  // Above any real vocabulary; a stray large id must not make us reserve its size.
  constexpr uint64_t kMostTokens = 16 << 20;
  KVLAB_CHECK(id.is_number_unsigned() && id.get<uint64_t>() < kMostTokens, kRead,
              "an id is a whole number from 0 on, ", path.string(), " gives '", token, "' the id ",
              id.dump());
  const auto index = id.get<size_t>();
  if (index >= tokens.size()) tokens.resize(index + 1);
  KVLAB_CHECK(!tokens[index] || *tokens[index] == token, kRead, "an id belongs to one token, ",
              path.string(), " gives ", index, " to '", tokens[index].value_or(""), "' and '",
              token, "'");
  tokens[index] = token;
}

std::vector<std::optional<std::string>> placed_vocabulary(const Json& vocabulary,
                                                          const Path& path) {
  KVLAB_CHECK(vocabulary.is_object(), kRead, "the vocabulary is an object of token: id, ",
              path.string(), " has a ", vocabulary.type_name());
  std::vector<std::optional<std::string>> tokens;
  tokens.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) place(tokens, token, id, path);
  return tokens;
}

std::vector<std::string> without_holes(std::vector<std::optional<std::string>> placed,
                                       const Path& path) {
  std::vector<std::string> tokens;
  tokens.reserve(placed.size());
  for (auto& token : placed) {
    KVLAB_CHECK(token, kRead, "every id below the largest has a token, ", path.string(),
                " has none for ", tokens.size());
    tokens.push_back(std::move(*token));
  }
  KVLAB_CHECK(!tokens.empty(), kRead, "the vocabulary has a token, ", path.string(), " has none");
  return tokens;
}

// "left right"; tokens never hold a space, since the byte alphabet has none.
std::pair<std::string, std::string> split_merge(const std::string& text, const std::string& where) {
  const size_t space = text.find(' ');
  KVLAB_CHECK(space != std::string::npos && space > 0 && space + 1 < text.size() &&
                  text.find(' ', space + 1) == std::string::npos,
              kRead, "a merge is two tokens with a space between, ", where, " has '", text, "'");
  return {text.substr(0, space), text.substr(space + 1)};
}

// Requires that `object[key]` is absent or one of the values that change nothing.
void refuse_unless_neutral(const Json& object, const char* key, std::initializer_list<Json> neutral,
                           const std::string& where) {
  if (!object.contains(key) || object[key].is_null()) return;
  for (const Json& value : neutral)
    if (object[key] == value) return;
  throw UserError(detail::concat(kRead, where, ": ", key, " = ", object[key].dump(),
                                 " changes the ids and is not implemented"));
}

std::string type_of(const Json& object) {
  return object.is_object() ? object.value("type", std::string("without type")) : object.dump();
}

void check_byte_level(const Json& step, const std::string& where) {
  KVLAB_CHECK(type_of(step) == "ByteLevel", kRead, where, ": pre_tokenizer ", type_of(step),
              " is not implemented; known are ByteLevel, and Digits before ByteLevel");
  refuse_unless_neutral(step, "use_regex", {true}, where + ": ByteLevel");
  // Absent means true to its reader, so here false has to be written.
  KVLAB_CHECK(step.value("add_prefix_space", true) == false, kRead, where,
              ": ByteLevel: add_prefix_space = true changes the ids and is not implemented");
}

PreTokenizer detect_pre_tokenizer(const Json& pre_tokenizer, const std::string& where) {
  if (type_of(pre_tokenizer) != "Sequence") {
    check_byte_level(pre_tokenizer, where);
    return PreTokenizer::gpt2;
  }
  const Json& steps = pre_tokenizer.at("pretokenizers");
  if (steps.size() == 1) {
    check_byte_level(steps[0], where);
    return PreTokenizer::gpt2;
  }
  std::string names;
  for (const Json& step : steps) names += (names.empty() ? "" : ", ") + type_of(step);
  KVLAB_CHECK(steps.size() == 2 && type_of(steps[0]) == "Digits", kRead, where,
              ": pre_tokenizer Sequence of ", names,
              " is not implemented; known are ByteLevel, and Digits before ByteLevel");
  KVLAB_CHECK(steps[0].value("individual_digits", false), kRead, where,
              ": Digits: individual_digits = false is not implemented");
  check_byte_level(steps[1], where);
  return PreTokenizer::digits;
}

void add_added_tokens(const Json& added, std::vector<std::optional<std::string>>& tokens,
                      std::vector<int32_t>& special, const Path& path) {
  for (const Json& token : added) {
    const auto content = token.at("content").get<std::string>();
    const std::string where = path.string() + ": added token '" + content + "'";
    // How far it reaches would then depend on its neighbours in the text.
    for (const char* key : {"single_word", "lstrip", "rstrip"})
      refuse_unless_neutral(token, key, {false}, where);
    place(tokens, content, token.at("id"), path);
    special.push_back(token.at("id").get<int32_t>());
  }
}

TokenizerData read_hugging_face(const Path& path) {
  const std::string where = path.string();
  const Json json = model_file::read_object(path.string(), kOperation);
  try {
    const Json& model = json.at("model");
    // The oldest files name no type; BPE is the one with merges.
    const std::string type = model.value("type", model.contains("merges") ? "BPE" : "without type");
    KVLAB_CHECK(type == "BPE", kRead, where, ": model type ", type,
                " is not implemented; known is BPE");
    if (json.contains("normalizer") && !json["normalizer"].is_null())
      throw UserError(detail::concat(kRead, where, ": normalizer ", type_of(json["normalizer"]),
                                     " is not implemented"));
    refuse_unless_neutral(model, "dropout", {0.0}, where);
    refuse_unless_neutral(model, "continuing_subword_prefix", {""}, where);
    refuse_unless_neutral(model, "end_of_word_suffix", {""}, where);
    refuse_unless_neutral(model, "byte_fallback", {false}, where);
    refuse_unless_neutral(model, "ignore_merges", {false}, where);
    TokenizerData data;
    data.pre_tokenizer = detect_pre_tokenizer(json.value("pre_tokenizer", Json()), where);
    auto tokens = placed_vocabulary(model.at("vocab"), path);
    add_added_tokens(json.value("added_tokens", Json::array()), tokens, data.special, path);
    data.tokens = without_holes(std::move(tokens), path);
    for (const Json& merge : model.at("merges")) {
      if (merge.is_string()) {
        data.merges.push_back(split_merge(merge.get_ref<const std::string&>(), where));
        continue;
      }
      KVLAB_CHECK(merge.is_array() && merge.size() == 2, kRead, "a merge is text or two tokens, ",
                  where, " has ", merge.dump());
      data.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    }
    return data;
  } catch (const Json::exception& error) {
    // A key that is missing or of another type than its place asks for.
    throw UserError(
        detail::concat(kRead, where, " is not a tokenizer.json as expected: ", error.what()));
  }
}

TokenizerData read_pair(const Path& vocabulary, const Path& merges) {
  TokenizerData data;
  data.tokens = without_holes(
      placed_vocabulary(model_file::read_object(vocabulary.string(), kOperation), vocabulary),
      vocabulary);
  std::istringstream lines(read_text(merges));
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    data.merges.push_back(split_merge(line, detail::concat(merges.string(), ":", number)));
  }
  return data;
}

}  // namespace

TokenizerData read_tokenizer_folder(const std::string& folder) {
  const Path path(folder);
  if (!std::filesystem::is_directory(path))
    throw MissingError(detail::concat(kRead, "no such folder, ", folder));
  if (std::filesystem::exists(path / "tokenizer.json"))
    return read_hugging_face(path / "tokenizer.json");
  std::string halves;
  for (const auto& [vocabulary, merges] :
       {std::pair{"encoder.json", "vocab.bpe"}, {"vocab.json", "merges.txt"}}) {
    const bool has_vocabulary = std::filesystem::exists(path / vocabulary);
    const bool has_merges = std::filesystem::exists(path / merges);
    if (has_vocabulary && has_merges) return read_pair(path / vocabulary, path / merges);
    if (has_vocabulary != has_merges)
      halves += detail::concat("; ", has_vocabulary ? vocabulary : merges, " is there without ",
                               has_vocabulary ? merges : vocabulary);
  }
  throw MissingError(
      detail::concat(kRead, "no tokenizer.json, no encoder.json with vocab.bpe and no vocab.json ",
                     "with merges.txt in ", folder, halves));
}

}  // namespace kvlab

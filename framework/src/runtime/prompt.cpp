#include "kvlab/runtime/prompt.h"

#include <charconv>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include "kvlab/core/error.h"
#include "kvlab/runtime/config_schema.h"

namespace kvlab {

namespace {

constexpr int64_t kMostTokens = int64_t{1} << 24;

std::vector<int32_t> random_tokens(uint64_t seed, int64_t count, int64_t vocabulary) {
  std::mt19937_64 stream(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(stream() % static_cast<uint64_t>(vocabulary)));
  }
  return tokens;
}

// The line that `line` names, counted from 1.
JsonlLine chosen_line(ConfigReader& reader, const std::vector<JsonlLine>& lines) {
  const int64_t number = reader.integer("line", {1, kMostTokens});
  if (number > static_cast<int64_t>(lines.size())) {
    reader.fail("line",
                detail::concat("the file has ", lines.size(), " lines, wanted line ", number));
  }
  return lines[static_cast<size_t>(number - 1)];
}

std::vector<int32_t> piece_tokens(const TextPiece& piece, const std::string& where,
                                  const TokenSource& source) {
  if (piece.ids.empty() && source.tokenizer == nullptr) {
    throw UserError(detail::concat(where, ": model '", source.model,
                                   "' has no tokenizer; name one in its YAML, or give ids"));
  }
  std::vector<int64_t> ids = piece.ids;
  if (ids.empty()) {
    for (const int32_t token : source.tokenizer->encode(piece.text)) ids.push_back(token);
  }
  std::vector<int32_t> tokens;
  for (const int64_t id : ids) {
    if (id < 0 || id >= source.vocabulary) {
      throw UserError(detail::concat(where, ": a token must lie inside the vocabulary of ",
                                     source.vocabulary, " tokens, got ", id));
    }
    tokens.push_back(static_cast<int32_t>(id));
  }
  return tokens;
}

}  // namespace

PromptSpec::PromptSpec(ConfigReader reader) : PromptSpec(std::move(reader), EveryLine{}) {
  if (lines_.size() == 1) return;
  if (kind_ == "jsonl") {
    reader_.fail("line", detail::concat("one prompt is wanted here and the file has ",
                                        lines_.size(), " lines; name one, from 1 on"));
  }
}

PromptSpec::PromptSpec(ConfigReader reader, EveryLine) : reader_(std::move(reader)) {
  note_part(reader_, "prompt");
  int kinds = 0;
  for (const char* kind : {"text", "file", "jsonl", "ids", "random"}) {
    if (!reader_.has(kind)) continue;
    kind_ = kind;
    ++kinds;
  }
  if (kinds != 1) {
    fail_at(reader_.node(),
            detail::concat("a prompt is one of text, file, jsonl, ids and random, got ", kinds,
                           " of them"));
  }
  for (const char* key : {"line", "field"}) {
    if (reader_.has(key) && kind_ != "jsonl") reader_.fail(key, "this belongs to a jsonl prompt");
  }
  count_ = reader_.integer_or("tokens", 0, {1, kMostTokens});
  if (kind_ == "text") {
    text_ = reader_.text("text");
  } else if (kind_ == "file") {
    const std::string path = reader_.data_path("file");
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    if (!file || content.str().empty())
      reader_.fail("file", "'" + path + "' is empty or unreadable");
    text_ = content.str();
  } else if (kind_ == "jsonl") {
    lines_ = read_jsonl_prompts(reader_.data_path("jsonl"), reader_.text_or("field", "text"));
    if (reader_.has("line")) lines_ = {chosen_line(reader_, lines_)};
  } else if (kind_ == "random") {
    constexpr IntegerRange kSeeds{0, std::numeric_limits<int64_t>::max()};
    random_seed_ = static_cast<uint64_t>(reader_.integer("random", kSeeds));
  } else {
    (void)reader_.value("ids");
  }
  reader_.finish();
}

std::vector<PromptSpec> PromptSpec::all_of(const ConfigReader& reader) {
  const PromptSpec whole(reader, EveryLine{});
  if (whole.kind_ != "jsonl") return {whole};
  std::vector<PromptSpec> prompts;
  for (const JsonlLine& line : whole.lines_) {
    prompts.push_back(whole);
    prompts.back().lines_ = {line};
  }
  return prompts;
}

std::vector<int32_t> PromptSpec::all_tokens(const TokenSource& source) const {
  if (kind_ == "jsonl") {
    return piece_tokens(lines_.front().pieces.front(), lines_.front().where, source);
  }
  if (kind_ == "ids") return read_token_ids(*reader_.node().find("ids"), source.vocabulary);
  if (source.tokenizer == nullptr) {
    reader_.fail(kind_, detail::concat("model '", source.model,
                                       "' has no tokenizer; name one in its YAML, or give ids"));
  }
  const std::vector<int32_t> tokens = source.tokenizer->encode(text_);
  if (tokens.empty()) reader_.fail(kind_, "the prompt has no tokens; give at least one");
  for (const int32_t token : tokens) {
    if (token < source.vocabulary) continue;
    reader_.fail(kind_, detail::concat("the tokenizer gives token ", token,
                                       ", outside the vocabulary of ", source.vocabulary,
                                       "; model and tokenizer do not belong together"));
  }
  return tokens;
}

std::vector<int32_t> PromptSpec::tokens(const TokenSource& source) const {
  if (random_seed_) {
    if (count_ == 0) reader_.fail("random", "a random prompt needs tokens, its length");
    return random_tokens(*random_seed_, count_, source.vocabulary);
  }
  std::vector<int32_t> tokens = all_tokens(source);
  if (static_cast<int64_t>(tokens.size()) < count_) {
    reader_.fail("tokens", detail::concat("the prompt has ", tokens.size(), " tokens for model '",
                                          source.model, "', wanted ", count_));
  }
  if (count_ > 0) tokens.resize(static_cast<size_t>(count_));
  return tokens;
}

std::vector<int32_t> PromptSpec::tokens(const TokenSource& source, int64_t length,
                                        int64_t offset) const {
  if (random_seed_) {
    return random_tokens(*random_seed_ + static_cast<uint64_t>(offset), length, source.vocabulary);
  }
  const std::vector<int32_t> all = tokens(source);
  std::vector<int32_t> cut;
  for (int64_t i = 0; i < length; ++i) {
    cut.push_back(all[static_cast<size_t>(offset + i) % all.size()]);
  }
  return cut;
}

std::vector<PromptSpec> read_prompts(ConfigReader& reader, const std::string& key) {
  const ConfigNode* node = reader.node().find(key);
  if (node == nullptr || !node->is_list()) return PromptSpec::all_of(reader.child(key));
  std::vector<PromptSpec> prompts;
  for (const ConfigReader& row : reader.children(key)) {
    for (PromptSpec& prompt : PromptSpec::all_of(row)) prompts.push_back(std::move(prompt));
  }
  return prompts;
}

ConversationSpec::ConversationSpec(ConfigReader reader) {
  const std::string path = reader.data_path("jsonl");
  const SchemaRecording* recording = SchemaRecording::current();
  if (recording != nullptr && recording->examples()) {
    // The file of an example need not exist.
    (void)reader.integer("line", {1, kMostTokens});
    line_.pieces = {{"", {0}}};
  } else {
    line_ = chosen_line(reader, read_jsonl_turns(path));
  }
  reader.finish();
}

std::vector<std::vector<int32_t>> ConversationSpec::turns(const TokenSource& source) const {
  std::vector<std::vector<int32_t>> turns;
  for (size_t i = 0; i < line_.pieces.size(); ++i) {
    turns.push_back(
        piece_tokens(line_.pieces[i], detail::concat(line_.where, ": turns.", i), source));
  }
  return turns;
}

std::vector<int32_t> read_token_ids(const ConfigNode& list, int64_t vocabulary) {
  if (!list.is_list() || list.items().empty()) {
    fail_at(list, detail::concat("wanted a list of token ids, got ", list.description()));
  }
  std::vector<int32_t> tokens;
  for (const ConfigNode& item : list.items()) {
    int32_t token = -1;
    bool whole = item.is_scalar() && !item.quoted();
    if (whole) {
      const std::string& text = item.text();
      const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), token);
      whole = error == std::errc{} && stop == text.data() + text.size();
    }
    if (!whole) fail_at(item, detail::concat("wanted a token id, got ", item.description()));
    if (token < 0 || token >= vocabulary) {
      fail_at(item, detail::concat("a token must lie inside the vocabulary of ", vocabulary,
                                   " tokens, got ", token));
    }
    tokens.push_back(token);
  }
  return tokens;
}

}  // namespace kvlab

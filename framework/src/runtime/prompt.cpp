#include "kvlab/runtime/prompt.h"

#include <charconv>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include "kvlab/core/error.h"

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

}  // namespace

PromptSpec::PromptSpec(ConfigReader reader) : reader_(std::move(reader)) {
  int kinds = 0;
  for (const char* kind : {"text", "file", "ids", "random"}) {
    if (!reader_.has(kind)) continue;
    kind_ = kind;
    ++kinds;
  }
  if (kinds != 1) {
    fail_at(reader_.node(), detail::concat("a prompt is one of text, file, ids and random, got ",
                                           kinds, " of them"));
  }
  count_ = reader_.integer_or("tokens", 0, {1, kMostTokens});
  if (kind_ == "text") {
    text_ = reader_.text("text");
  } else if (kind_ == "file") {
    const std::string path = reader_.data_path("file");
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    if (!file || content.str().empty()) reader_.fail("file", "'" + path + "' is empty or unreadable");
    text_ = content.str();
  } else if (kind_ == "random") {
    constexpr IntegerRange kSeeds{0, std::numeric_limits<int64_t>::max()};
    random_seed_ = static_cast<uint64_t>(reader_.integer("random", kSeeds));
  } else {
    (void)reader_.value("ids");
  }
  reader_.finish();
}

std::vector<int32_t> PromptSpec::all_tokens(const TokenSource& source) const {
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
  std::vector<PromptSpec> prompts;
  if (node == nullptr || !node->is_list()) {
    prompts.emplace_back(reader.child(key));
    return prompts;
  }
  for (const ConfigReader& row : reader.children(key)) prompts.emplace_back(row);
  return prompts;
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

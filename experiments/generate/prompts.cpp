#include "prompts.h"

#include <charconv>
#include <fstream>
#include <limits>
#include <random>
#include <sstream>

#include "kvlab/core/error.h"

namespace kvlab::experiments::generate_kind {

namespace {

constexpr int64_t kMostRandomTokens = int64_t{1} << 24;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  KVLAB_CHECK(file.good(), "[generate.prompt] '", path, "' cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void encode(const ConfigReader& reader, const char* key, const PromptSource& source,
            Prompt& prompt) {
  if (source.tokenizer == nullptr) {
    reader.fail(key, detail::concat("a prompt given as text needs a tokenizer, and model '",
                                    source.model_name,
                                    "' has none; add tokenizer: to the model, or give ids"));
  }
  prompt.tokens = source.tokenizer->encode(prompt.text);
  if (prompt.tokens.empty()) reader.fail(key, "the prompt has no tokens; give at least one");
  for (const int32_t token : prompt.tokens) {
    if (token >= source.vocabulary) {
      reader.fail(key, detail::concat("the tokenizer gives token ", token,
                                      ", outside the model's vocabulary of ", source.vocabulary,
                                      "; they do not belong together"));
    }
  }
}

Prompt read_prompt(ConfigReader reader, const PromptSource& source) {
  Prompt prompt;
  std::vector<std::string> kinds;
  for (const char* kind : {"text", "ids", "file", "random"}) {
    if (reader.has(kind)) kinds.emplace_back(kind);
  }
  if (kinds.size() != 1) {
    fail_at(reader.node(), detail::concat("a prompt is one of text, ids, file or random, got ",
                                          kinds.size(), " of them"));
  }
  const std::string& kind = kinds.front();
  if (kind == "text") {
    prompt.text = reader.text("text");
    encode(reader, "text", source, prompt);
  } else if (kind == "file") {
    prompt.text = read_file(reader.data_path("file"));
    encode(reader, "file", source, prompt);
  } else if (kind == "ids") {
    prompt.tokens = read_token_ids(reader.value("ids"), source.vocabulary);
  } else {
    const int64_t seed = reader.integer("random", {0, std::numeric_limits<int64_t>::max()});
    const int64_t count = reader.integer("tokens", {1, kMostRandomTokens});
    std::mt19937_64 random(static_cast<uint64_t>(seed));
    for (int64_t i = 0; i < count; ++i) {
      prompt.tokens.push_back(
          static_cast<int32_t>(random() % static_cast<uint64_t>(source.vocabulary)));
    }
  }
  reader.finish();
  return prompt;
}

}  // namespace

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

std::vector<Prompt> read_prompts(ConfigReader& workload, const PromptSource& source) {
  const ConfigNode* node = workload.node().find("prompt");
  std::vector<Prompt> prompts;
  if (node == nullptr || !node->is_list()) {
    prompts.push_back(read_prompt(workload.child("prompt"), source));
    return prompts;
  }
  for (const ConfigReader& row : workload.children("prompt")) {
    prompts.push_back(read_prompt(row, source));
  }
  return prompts;
}

}  // namespace kvlab::experiments::generate_kind

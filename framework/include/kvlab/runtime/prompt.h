// Texts as configs name them, and as tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/model/tokenizer.h"
#include "kvlab/runtime/config_reader.h"
#include "kvlab/runtime/jsonl_text.h"

namespace kvlab {

/// What turns a text into tokens of one model.
struct TokenSource {
  std::string model;                     ///< its name, for messages
  const Tokenizer* tokenizer = nullptr;  ///< null: texts are refused
  int64_t vocabulary = 0;
};

/// One prompt: `{text: ...}`, `{file: PATH}`, `{jsonl: PATH, line: N}`, `{ids: [...]}` or
/// `{random: SEED}`, exactly one of them; with `tokens: N` only its first N tokens. Errors name the
/// place in the config, or the line of the JSON Lines file.
class PromptSpec {
 public:
  /// Reads the map and refuses other keys. Throws UserError.
  explicit PromptSpec(ConfigReader reader);

  /// As many prompts as the map stands for: one, or every line of a `jsonl` without `line`.
  static std::vector<PromptSpec> all_of(const ConfigReader& reader);

  std::optional<uint64_t> random_seed() const { return random_seed_; }

  /// The tokens; at least one. Throws UserError where the model has no tokenizer for a text, an id
  /// is outside the vocabulary, there are fewer than `tokens`, or a random prompt has no `tokens`.
  std::vector<int32_t> tokens(const TokenSource& source) const;

  /// Exactly `length` tokens: cut, or repeated from the start, after skipping `offset`. Random
  /// prompts draw another text for each offset.
  std::vector<int32_t> tokens(const TokenSource& source, int64_t length, int64_t offset) const;

 private:
  struct EveryLine {};  // the map may name a whole file
  PromptSpec(ConfigReader reader, EveryLine);

  std::vector<int32_t> all_tokens(const TokenSource& source) const;

  ConfigReader reader_;
  std::string kind_;  ///< the key that was given
  std::string text_;
  std::vector<JsonlLine> lines_;  ///< of `jsonl`: the chosen one, or all
  std::optional<uint64_t> random_seed_;
  int64_t count_ = 0;  ///< `tokens`; 0 = all
};

/// `prompt`: one map, or a list of maps, one per row; `{jsonl: PATH}` without `line` stands for one
/// row per line. Throws UserError.
std::vector<PromptSpec> read_prompts(ConfigReader& reader, const std::string& key = "prompt");

/// What one side of a conversation says, turn by turn: `{jsonl: PATH, line: N}`, a line being
/// `{"turns": ["...", [ids], ...]}`.
class ConversationSpec {
 public:
  /// Reads the map and refuses other keys. Throws UserError.
  explicit ConversationSpec(ConfigReader reader);

  /// The tokens of each turn, at least one. Throws UserError as `PromptSpec::tokens`.
  std::vector<std::vector<int32_t>> turns(const TokenSource& source) const;

 private:
  JsonlLine line_;
};

/// A list of token ids, which may repeat. Throws UserError at the one that is wrong.
std::vector<int32_t> read_token_ids(const ConfigNode& list, int64_t vocabulary);

}  // namespace kvlab

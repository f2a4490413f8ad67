// Prompts as configs name them, and as tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/config_reader.h"
#include "kvlab/runtime/model.h"

namespace kvlab {

/// `prompt: {text: ...}`, `{ids: [...]}`, `{file: PATH}` or `{random: SEED}`: exactly one of them.
struct PromptSpec {
  std::optional<std::string> text;  ///< given, or read from the file
  std::vector<int32_t> ids;
  std::optional<uint64_t> random_seed;
  std::string where;

  /// The prompt's tokens; `length` > 0 cuts it, or repeats it from its start, to exactly that many,
  /// after skipping `offset` tokens. Random prompts need a length. Throws UserError where the model
  /// has no tokenizer for a text, an id is outside the vocabulary, or nothing comes out.
  std::vector<int32_t> tokens(const Model& model, int64_t length = 0, int64_t offset = 0) const;
};

/// Reads `key` of `reader`. Throws UserError.
PromptSpec parse_prompt(ConfigReader& reader, const std::string& key = "prompt");

}  // namespace kvlab

// Reads prompts from a config: text, token ids, a file, or seeded random tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "generate_experiment.h"
#include "kvlab/runtime/config_reader.h"

namespace kvlab::experiments::generate_kind {

/// What turns text into tokens, and how many there are.
struct PromptSource {
  std::string model_name;
  const Tokenizer* tokenizer = nullptr;  ///< null: text is refused
  int64_t vocabulary = 0;
};

/// Reads `prompt`: one map, or a list of maps, one per row of the batch. Throws UserError at the
/// value that is wrong: no tokenizer, no token, a token outside the vocabulary.
std::vector<Prompt> read_prompts(ConfigReader& workload, const PromptSource& source);

/// Reads a list of token ids, which may repeat. Throws UserError at the one that is wrong.
std::vector<int32_t> read_token_ids(const ConfigNode& list, int64_t vocabulary);

}  // namespace kvlab::experiments::generate_kind

// The texts over which caches are compared, as a config names them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/model/tokenizer.h"
#include "kvlab/runtime/config_reader.h"

namespace kvlab::experiments::equivalence_kind {

/// `{random: SEED, tokens: N}`, `{text: ...}` or `{file: PATH}`, the last two optionally cut to
/// their first `tokens`.
class ComparedText {
 public:
  /// Throws UserError.
  explicit ComparedText(ConfigReader reader);

  std::optional<uint64_t> random_seed() const { return random_seed_; }

  /// The tokens for a model with this tokenizer (null: none) and vocabulary. Throws UserError at
  /// the text's place in the config where the model cannot read it or it is shorter than `tokens`.
  std::vector<int32_t> tokens_for(const std::string& model, const Tokenizer* tokenizer,
                                  int64_t vocabulary) const;

 private:
  ConfigReader reader_;
  std::string kind_;
  std::string text_;
  std::optional<uint64_t> random_seed_;
  int64_t tokens_ = 0;  // 0 = all
};

}  // namespace kvlab::experiments::equivalence_kind

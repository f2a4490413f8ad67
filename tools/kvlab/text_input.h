// Text and token ids as input of a command.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvlab/model/tokenizer.h"

namespace kvlab {

/// One of text, a file's text, or ids.
class TextInput {
 public:
  /// Adds `text_flag` (--prompt or --text), --ids and, where asked for, --text-file. They exclude
  /// each other.
  void add_options(CLI::App& app, const std::string& text_flag, bool with_file);

  bool is_ids() const { return ids_option_->count() > 0; }

  /// The ids of --ids. Throws UserError.
  std::vector<int32_t> ids() const;

  /// The text, or the file's. Throws UserError where none was given or the file cannot be read, and
  /// MissingError where there is none.
  std::string text() const;

  /// The ids, or the text's. `tokenizer` may be null: then only ids will do. Throws UserError.
  std::vector<int32_t> tokens(const Tokenizer* tokenizer) const;

  /// Throws UserError where nothing was given. Costs nothing, for before a model is loaded.
  void check_given() const;

 private:
  std::string flags() const;
  std::string text_flag_, text_, file_, ids_;
  CLI::Option* text_option_ = nullptr;
  CLI::Option* file_option_ = nullptr;
  CLI::Option* ids_option_ = nullptr;
};

/// Throws UserError naming the first id outside a vocabulary of `vocabulary` tokens.
void check_ids(std::span<const int32_t> ids, int64_t vocabulary, const std::string& what);

/// Decodes one token. An id that the model has and the tokenizer lacks (padded vocabularies)
/// becomes U+FFFD.
std::string decode_token(const Tokenizer& tokenizer, int32_t id);

}  // namespace kvlab

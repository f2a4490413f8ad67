// Byte-level byte-pair encoding, as GPT-2 (Radford et al., 2019) and its descendants use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvlab {

/// How text is cut into words before merging.
enum class PreTokenizer {
  gpt2,    ///< the GPT-2 pattern
  smollm,  ///< every digit 0 to 9 alone, then the GPT-2 pattern between them
  digits,  ///< every numeric character (Unicode N) alone, then the GPT-2 pattern between them
};

/// What a vocabulary file or GGUF metadata holds.
struct TokenizerData {
  PreTokenizer pre_tokenizer = PreTokenizer::gpt2;
  /// id -> token in the printable byte alphabet of GPT-2; special ones as they are written in text.
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::string>> merges;  ///< best first
  std::vector<int32_t> special;  ///< ids recognised where they are written in the text
};

/// Turns text into ids and back. Immutable: any number of threads may call it at once.
class Tokenizer {
 public:
  /// Throws UserError where data contradicts itself: a token twice or outside the byte alphabet, a
  /// merge twice or with a part or result that is no token, a special id out of range, a printable
  /// ASCII byte without a token. Rarer bytes may be missing (SmolLM2 lacks 21); `encode` refuses
  /// them.
  explicit Tokenizer(TokenizerData data);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Ids of `text`. Adds no special token. In this order: special tokens are cut out, leftmost
  /// first and the longest of those that start at one place; every byte that belongs to no
  /// well-formed UTF-8 character becomes a word of its own; the stretches between are cut into
  /// words by the pre-tokenizer, each as if it were the whole text; every word is merged. Time
  /// grows as n log n in the longest word. Throws UserError for a byte that the vocabulary has no
  /// token for.
  std::vector<int32_t> encode(std::string_view text) const;

  /// Bytes of the tokens, concatenated. Throws UserError for an id outside the vocabulary. The
  /// result of a cut token list may end inside a UTF-8 character.
  std::string decode(std::span<const int32_t> ids) const;

  int64_t vocabulary() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Reads a folder with `tokenizer.json`, or `encoder.json` + `vocab.bpe`, or `vocab.json` +
/// `merges.txt`; the first of these that is there. In `tokenizer.json` the added tokens become
/// special and the pre-tokenizer is detected; a normalizer, another model type or pre-tokenizer,
/// and options that change how text is cut or merged are refused by name; parts that add tokens
/// around the ids, pad or truncate are not applied. The pairs are read as GPT-2's: its pattern, and
/// no special tokens, so `<|endoftext|>` is plain text. Throws MissingError where nothing is there,
/// UserError (naming the file) where something cannot be used.
TokenizerData read_tokenizer_folder(const std::string& folder);

/// Length of the longest prefix of `bytes` that does not end inside a UTF-8 character, for
/// streaming. Bytes that no continuation could make valid count as complete.
size_t complete_utf8_prefix(std::string_view bytes);

}  // namespace kvlab

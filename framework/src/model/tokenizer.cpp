#include "kvlab/model/tokenizer.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <queue>
#include <tuple>
#include <unordered_map>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

std::string pattern_of(PreTokenizer pre_tokenizer) {
  // Unicode's White_Space, for use in a class. PCRE2's \s also holds U+180E, which is none.
  const std::string space =
      R"(\t-\r \x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
  const std::string contraction = "'s|'t|'re|'ve|'m|'ll|'d";
  const std::string letters = R"(| ?\p{L}+)";
  const std::string numerics = R"(| ?\p{N}+)";
  const std::string others = R"(| ?[^\p{L}\p{N})" + space + "]+";
  const std::string spaces = "|[" + space + "]+(?![^" + space + "])|[" + space + "]+";
  if (pre_tokenizer == PreTokenizer::gpt2)
    return contraction + letters + numerics + others + spaces;
  // Cutting the digits out first, then applying the pattern above to the stretches between them,
  // in one pattern: white space in front of a digit ends its stretch, so all of it is one word.
  const bool every_numeric = pre_tokenizer == PreTokenizer::digits;
  const std::string digit = every_numeric ? R"(\p{N})" : "[0-9]";
  const std::string other_numerics = every_numeric ? "" : R"(| ?(?:(?![0-9])\p{N})+)";
  const std::string spaces_before_digit = "|[" + space + "]++(?=" + digit + ")";
  return digit + "|" + contraction + letters + other_numerics + others + spaces_before_digit +
         spaces;
}

enum class Utf8 { complete, cut, invalid };

struct Utf8Character {
  Utf8 state;
  size_t length;  // bytes it takes where complete, else 1
};

// Judges the character at the front of `bytes`, which is not empty (table 3-7 of the Unicode
// standard: no overlong forms, no surrogates, nothing above U+10FFFF).
Utf8Character front_character(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {Utf8::complete, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8::invalid, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Utf8::cut, 1};
    unsigned char low = 0x80, high = 0xBF;
    if (i == 1 && lead == 0xE0) low = 0xA0;
    if (i == 1 && lead == 0xED) high = 0x9F;
    if (i == 1 && lead == 0xF0) low = 0x90;
    if (i == 1 && lead == 0xF4) high = 0x8F;
    if (byte(i) < low || byte(i) > high) return {Utf8::invalid, 1};
  }
  return {Utf8::complete, length};
}

// GPT-2 writes every byte as one printable character: itself where it is printable Latin-1, else
// the next free code point from U+0100 on.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    byte_of_.fill(-1);
    int next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      byte_of_[static_cast<size_t>(printable ? byte : next++)] = static_cast<int16_t>(byte);
    }
  }

  // The bytes that `token` stands for; false where it has a character outside the alphabet.
  bool decode(std::string_view token, std::string& bytes) const {
    bytes.clear();
    while (!token.empty()) {
      const Utf8Character character = front_character(token);
      if (character.state != Utf8::complete || character.length > 2) return false;
      size_t code = static_cast<unsigned char>(token[0]);
      if (character.length == 2)
        code = ((code & 0x1F) << 6) | (static_cast<unsigned char>(token[1]) & 0x3F);
      if (code >= byte_of_.size() || byte_of_[code] < 0) return false;
      bytes += static_cast<char>(byte_of_[code]);
      token.remove_prefix(character.length);
    }
    return true;
  }

 private:
  std::array<int16_t, 0x100 + 68> byte_of_;
};

std::string hexadecimal(unsigned char byte) {
  constexpr const char* kDigits = "0123456789abcdef";
  return {'0', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
}

struct FreeCode {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};
using Pattern = std::unique_ptr<pcre2_code, FreeCode>;
using Match = std::unique_ptr<pcre2_match_data, FreeMatch>;

Pattern compile(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  Pattern code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr));
  KVLAB_INVARIANT(code, "[model.tokenizer] pattern does not compile, PCRE2 error ", error,
                  " at offset ", offset);
  // Where PCRE2 has no JIT for this machine, it interprets the pattern: slower, the same words.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

struct Merge {
  int32_t rank;
  int32_t result;
};

uint64_t pair_key(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

using MergeTable = std::unordered_map<uint64_t, Merge>;

// Merges one word: always the best-ranked pair of neighbours, the leftmost of equals. A heap of
// candidates over a linked list of symbols, so a word of n bytes costs O(n log n).
class WordMerger {
 public:
  explicit WordMerger(const MergeTable& merges) : merges_(merges) {}

  // Appends what is left of `symbols` to `ids`.
  void merge(const std::vector<int32_t>& symbols, std::vector<int32_t>& ids) {
    const size_t count = symbols.size();
    symbols_.resize(count);
    for (size_t i = 0; i < count; ++i)
      symbols_[i] = {symbols[i], i - 1, i + 1 < count ? i + 1 : kNone};
    if (count > 0) symbols_[0].previous = kNone;
    for (size_t i = 0; i + 1 < count; ++i) propose(i);
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      Symbol& left = symbols_[best.position];
      // Neighbours may have changed since the pair was proposed.
      if (left.id != best.left || left.next == kNone || symbols_[left.next].id != best.right)
        continue;
      Symbol& right = symbols_[left.next];
      left.id = best.result;
      left.next = right.next;
      right.id = kMerged;
      if (left.next != kNone) {
        symbols_[left.next].previous = best.position;
        propose(best.position);
      }
      if (left.previous != kNone) propose(left.previous);
    }
    for (size_t i = count > 0 ? 0 : kNone; i != kNone; i = symbols_[i].next)
      ids.push_back(symbols_[i].id);
  }

 private:
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();
  static constexpr int32_t kMerged = -1;

  struct Symbol {
    int32_t id;
    size_t previous;
    size_t next;
  };
  struct Candidate {
    int32_t rank;
    size_t position;
    int32_t left;
    int32_t right;
    int32_t result;
    bool operator>(const Candidate& other) const {
      return std::tie(rank, position) > std::tie(other.rank, other.position);
    }
  };

  void propose(size_t position) {
    const Symbol& left = symbols_[position];
    const int32_t right = symbols_[left.next].id;
    const auto found = merges_.find(pair_key(left.id, right));
    if (found == merges_.end()) return;
    candidates_.push({found->second.rank, position, left.id, right, found->second.result});
  }

  const MergeTable& merges_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates_;
};

}  // namespace

class Tokenizer::Impl {
 public:
  explicit Impl(TokenizerData data) : pattern_(compile(pattern_of(data.pre_tokenizer))) {
    const auto limit = static_cast<size_t>(std::numeric_limits<int32_t>::max());
    KVLAB_CHECK_LT(data.tokens.size(), limit, "[model.tokenizer.open] tokens of the vocabulary");
    add_merges(data, add_tokens(data));
  }

  std::vector<int32_t> encode(std::string_view text) const;

  std::string decode(std::span<const int32_t> ids) const {
    std::string bytes;
    for (const int32_t id : ids) {
      KVLAB_CHECK(id >= 0 && id < vocabulary(),
                  "[model.tokenizer.decode] an id is at least 0 and below ", vocabulary(), ", got ",
                  id);
      bytes += bytes_[static_cast<size_t>(id)];
    }
    return bytes;
  }

  int64_t vocabulary() const { return static_cast<int64_t>(bytes_.size()); }

 private:
  class Encoding;
  using IdTable = std::unordered_map<std::string_view, int32_t>;

  // Returns the id of every token; the table refers to the strings of `data`.
  IdTable add_tokens(const TokenizerData& data) {
    const auto count = static_cast<int32_t>(data.tokens.size());
    std::vector<bool> special(data.tokens.size(), false);
    for (const int32_t id : data.special) {
      KVLAB_CHECK(id >= 0 && id < count,
                  "[model.tokenizer.open] a special id is at least 0 and below ", count, ", got ",
                  id);
      if (special[static_cast<size_t>(id)]) continue;
      const std::string& token = data.tokens[static_cast<size_t>(id)];
      KVLAB_CHECK(!token.empty(), "[model.tokenizer.open] special token ", id, " is empty");
      special[static_cast<size_t>(id)] = true;
      special_by_byte_[static_cast<unsigned char>(token[0])].push_back(id);
    }
    const ByteAlphabet alphabet;
    bytes_.resize(data.tokens.size());
    byte_ids_.fill(-1);
    IdTable id_of;
    id_of.reserve(data.tokens.size());
    for (int32_t id = 0; id < count; ++id) {
      const std::string& token = data.tokens[static_cast<size_t>(id)];
      std::string& bytes = bytes_[static_cast<size_t>(id)];
      const auto [earlier, is_new] = id_of.emplace(token, id);
      KVLAB_CHECK(is_new, "[model.tokenizer.open] a token stands in the vocabulary once, '", token,
                  "' has the ids ", earlier->second, " and ", id);
      if (special[static_cast<size_t>(id)]) {
        bytes = token;
        continue;
      }
      KVLAB_CHECK(alphabet.decode(token, bytes), "[model.tokenizer.open] token ", id, " '", token,
                  "' has a character outside the byte alphabet of GPT-2");
      if (bytes.size() == 1) byte_ids_[static_cast<unsigned char>(bytes[0])] = id;
    }
    for (auto& ids : special_by_byte_)
      std::sort(ids.begin(), ids.end(), [this](int32_t a, int32_t b) {
        return bytes_[static_cast<size_t>(a)].size() > bytes_[static_cast<size_t>(b)].size();
      });
    for (unsigned char byte = ' '; byte <= '~'; ++byte)
      KVLAB_CHECK(byte_ids_[byte] >= 0,
                  "[model.tokenizer.open] every printable ASCII byte has a token, ",
                  hexadecimal(byte), " has none; is this a byte-level vocabulary?");
    return id_of;
  }

  void add_merges(const TokenizerData& data, const IdTable& id_of) {
    KVLAB_CHECK_LT(data.merges.size(), static_cast<size_t>(std::numeric_limits<int32_t>::max()),
                   "[model.tokenizer.open] merges");
    merges_.reserve(data.merges.size());
    int32_t rank = 0;
    for (const auto& [left, right] : data.merges) {
      const auto id = [&, &first = left, &second = right](const std::string& token) {
        const auto found = id_of.find(token);
        KVLAB_CHECK(found != id_of.end(),
                    "[model.tokenizer.open] parts and result of a merge are tokens, ", "merge ",
                    rank, " ('", first, "' + '", second, "') needs '", token, "'");
        return found->second;
      };
      const uint64_t parts = pair_key(id(left), id(right));
      const bool is_new = merges_.emplace(parts, Merge{rank, id(left + right)}).second;
      KVLAB_CHECK(is_new, "[model.tokenizer.open] a merge stands in the list once, merge ", rank,
                  " ('", left, "' + '", right, "') is a repetition");
      ++rank;
    }
  }

  // The special token written at the front of `text`, the longest where several are; -1 for none.
  int32_t special_at(std::string_view text) const {
    for (const int32_t id : special_by_byte_[static_cast<unsigned char>(text[0])])
      if (text.starts_with(bytes_[static_cast<size_t>(id)])) return id;
    return -1;
  }

  Pattern pattern_;
  std::vector<std::string> bytes_;  // by id: what decode prints
  std::array<int32_t, 256> byte_ids_;
  std::array<std::vector<int32_t>, 256> special_by_byte_;  // by first byte, longest first
  MergeTable merges_;
};

// One call of encode: what it needs to write to, so that the tokenizer itself stays immutable.
class Tokenizer::Impl::Encoding {
 public:
  Encoding(const Impl& impl, std::string_view text)
      : impl_(impl),
        text_(text),
        match_(pcre2_match_data_create(1, nullptr)),
        merger_(impl.merges_) {
    KVLAB_INVARIANT(match_, "[model.tokenizer.encode] out of memory");
  }

  std::vector<int32_t> run() {
    size_t begin = 0;
    for (size_t i = 0; i < text_.size();) {
      const int32_t special = impl_.special_at(text_.substr(i));
      const Utf8Character character = front_character(text_.substr(i));
      if (special < 0 && character.state == Utf8::complete) {
        i += character.length;
        continue;
      }
      encode_stretch(begin, i);
      if (special >= 0) {
        ids_.push_back(special);
        i += impl_.bytes_[static_cast<size_t>(special)].size();
      } else {
        encode_word(i, i + 1);
        i += 1;
      }
      begin = i;
    }
    encode_stretch(begin, text_.size());
    return std::move(ids_);
  }

 private:
  // Bytes [begin, end) of the text: well-formed UTF-8 without special tokens.
  void encode_stretch(size_t begin, size_t end) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text_.data() + begin);
    for (size_t word = begin; word < end;) {
      // Without PCRE2's own check: it reads the whole subject again for every word.
      const int found = pcre2_match(impl_.pattern_.get(), subject, end - begin, word - begin,
                                    PCRE2_NO_UTF_CHECK, match_.get(), nullptr);
      const size_t word_end = found > 0 ? begin + pcre2_get_ovector_pointer(match_.get())[1] : word;
      KVLAB_INVARIANT(word_end > word, "[model.tokenizer.encode] the pattern stops at byte ", word,
                      ", PCRE2 result ", found);
      encode_word(word, word_end);
      word = word_end;
    }
  }

  void encode_word(size_t begin, size_t end) {
    // Words repeat: their ids are copied from where they came up first.
    const auto [seen, is_new] = seen_.try_emplace(text_.substr(begin, end - begin));
    if (!is_new) {
      const size_t target = ids_.size();
      ids_.resize(target + seen->second.count);
      std::copy_n(ids_.begin() + static_cast<std::ptrdiff_t>(seen->second.begin),
                  seen->second.count, ids_.begin() + static_cast<std::ptrdiff_t>(target));
      return;
    }
    symbols_.clear();
    for (size_t i = begin; i < end; ++i) {
      const auto byte = static_cast<unsigned char>(text_[i]);
      const int32_t id = impl_.byte_ids_[byte];
      KVLAB_CHECK(id >= 0, "[model.tokenizer.encode] byte ", hexadecimal(byte), " at offset ", i,
                  " has no token in this vocabulary; remove it from the text");
      symbols_.push_back(id);
    }
    const size_t first = ids_.size();
    merger_.merge(symbols_, ids_);
    seen->second = {first, ids_.size() - first};
  }

  struct Ids {
    size_t begin = 0;
    size_t count = 0;
  };

  const Impl& impl_;
  std::string_view text_;
  Match match_;
  WordMerger merger_;
  std::vector<int32_t> symbols_;
  std::vector<int32_t> ids_;
  std::unordered_map<std::string_view, Ids> seen_;
};

std::vector<int32_t> Tokenizer::Impl::encode(std::string_view text) const {
  return Encoding(*this, text).run();
}

Tokenizer::Tokenizer(TokenizerData data) : impl_(std::make_unique<Impl>(std::move(data))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text) const { return impl_->encode(text); }

std::string Tokenizer::decode(std::span<const int32_t> ids) const { return impl_->decode(ids); }

int64_t Tokenizer::vocabulary() const { return impl_->vocabulary(); }

size_t complete_utf8_prefix(std::string_view bytes) {
  // A character has at most three bytes before its last one.
  const size_t earliest = bytes.size() > 3 ? bytes.size() - 3 : 0;
  for (size_t i = earliest; i < bytes.size(); ++i)
    if (front_character(bytes.substr(i)).state == Utf8::cut) return i;
  return bytes.size();
}

}  // namespace kvlab

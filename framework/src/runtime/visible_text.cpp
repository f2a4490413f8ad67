#include "kvlab/runtime/visible_text.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace kvlab {

namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Character {
  uint32_t code = 0;
  size_t bytes = 0;  // 0: not UTF-8
};

// The character at the start of `text`, which is not empty. Overlong forms and surrogates are not
// UTF-8.
Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  size_t bytes = 0;
  uint32_t code = 0;
  uint32_t smallest = 0;
  if ((lead & 0xE0) == 0xC0) {
    bytes = 2, code = lead & 0x1FU, smallest = 0x80;
  } else if ((lead & 0xF0) == 0xE0) {
    bytes = 3, code = lead & 0x0FU, smallest = 0x800;
  } else if ((lead & 0xF8) == 0xF0) {
    bytes = 4, code = lead & 0x07U, smallest = 0x10000;
  }
  if (bytes == 0 || bytes > text.size()) return {};
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3FU);
  }
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < smallest || code > 0x10FFFF || surrogate) return {};
  return {code, bytes};
}

// A picture from U+2400 on, as UTF-8.
std::string picture(uint32_t offset) {
  return {'\xE2', '\x90', static_cast<char>(0x80 + offset)};
}

bool turns_or_breaks(uint32_t code) {
  return (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069) ||
         code == 0x2028 || code == 0x2029;
}

}  // namespace

std::string visible_text(std::string_view text, LineBreaks breaks) {
  constexpr uint32_t kDelete = 0x7F;
  constexpr uint32_t kPictureOfDelete = 0x21;
  std::string shown;
  shown.reserve(text.size());
  while (!text.empty()) {
    const Character character = first_character(text);
    const uint32_t code = character.code;
    const bool kept = breaks == LineBreaks::keep && (code == '\n' || code == '\t');
    if (character.bytes == 0 || (code > kDelete && code < 0xA0)) {
      shown += kReplacement;
    } else if (code < 0x20 && !kept) {
      shown += picture(code);
    } else if (code == kDelete) {
      shown += picture(kPictureOfDelete);
    } else if (turns_or_breaks(code)) {
      std::array<char, 24> number{};
      std::snprintf(number.data(), number.size(), "⟨U+%04X⟩", static_cast<unsigned>(code));
      shown += number.data();
    } else {
      shown += text.substr(0, character.bytes);
    }
    text.remove_prefix(character.bytes == 0 ? 1 : character.bytes);
  }
  return shown;
}

}  // namespace kvlab

#include "number_list.h"

#include <charconv>
#include <limits>
#include <optional>

#include "kvlab/core/byte_size.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

class ListParser {
 public:
  ListParser(std::string_view text, const std::string& option, int64_t least, int64_t most)
      : text_(text), option_(option), least_(least), most_(most) {}

  std::vector<int64_t> parse() {
    std::vector<int64_t> numbers;
    skip_blanks();
    while (at_ < text_.size()) {
      numbers.push_back(number());
      const size_t end = at_;
      skip_blanks();
      if (at_ == text_.size()) break;
      if (text_[at_] == ',') {
        ++at_;
        skip_blanks();
        if (at_ == text_.size()) fail("a number", at_);
      } else if (at_ == end) {
        fail("',' or a space", at_);
      }
    }
    return numbers;
  }

 private:
  void skip_blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }

  int64_t number() {
    if (!is_digit(text_[at_])) fail("a whole number", at_);
    int64_t value = 0;
    const char* begin = text_.data() + at_;
    const auto [stop, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    const std::string_view digits(begin, static_cast<size_t>(stop - begin));
    KVLAB_CHECK(error == std::errc{} && value >= least_ && value <= most_, "[command_line.",
                option_, "] number at character ", at_ + 1, " must be from ", least_, " to ", most_,
                ", got ", digits);
    at_ += digits.size();
    return value;
  }

  [[noreturn]] void fail(const char* wanted, size_t at) const {
    const std::string got = at == text_.size() ? "the end" : "'" + std::string(1, text_[at]) + "'";
    throw UserError(detail::concat("[command_line.", option_, "] wanted ", wanted, " at character ",
                                   at + 1, " of '", text_, "', got ", got,
                                   ". Write numbers like 1,2,3"));
  }

  std::string_view text_;
  const std::string& option_;
  int64_t least_, most_;
  size_t at_ = 0;
};

}  // namespace

std::vector<int64_t> parse_number_list(std::string_view text, const std::string& option,
                                       int64_t least, int64_t most) {
  return ListParser(text, option, least, most).parse();
}

std::vector<int32_t> parse_ids(std::string_view text, const std::string& option) {
  const auto numbers = parse_number_list(text, option, 0, std::numeric_limits<int32_t>::max());
  std::vector<int32_t> ids;
  ids.reserve(numbers.size());
  for (const int64_t number : numbers) ids.push_back(static_cast<int32_t>(number));
  return ids;
}

int64_t parse_bytes(std::string_view text, const std::string& option) {
  const std::optional<int64_t> bytes = parse_byte_size(text);
  KVLAB_CHECK(bytes.has_value(), "[command_line.", option,
              "] wanted a size like 8GB, 512MiB or 1000000 (bytes), got '", text, "'");
  return *bytes;
}

}  // namespace kvlab

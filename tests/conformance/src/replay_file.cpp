// Replay files: text for people, read strictly.
#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "kvlab/conformance/random_operations.h"
#include "kvlab/core/error.h"

namespace kvlab::conformance {

namespace {

using Kind = Operation::Kind;

constexpr const char* kFirstLine = "kvlab replay 1";
constexpr const char* kLastLine = "end";
constexpr int64_t kMostAmount = 1'000'000;
constexpr size_t kMostOperations = 1'000'000;

/// How the numbers of one kind of operation are called; nullptr: it has none.
struct OperationWords {
  Kind kind;
  const char* name;
  const char* row;
  const char* other;
  const char* amount;
  bool tokens;
};

constexpr std::array<OperationWords, 9> kWords = {{
    {Kind::step, "step", "first", nullptr, nullptr, true},
    {Kind::view_twice, "view_twice", "first", nullptr, nullptr, true},
    {Kind::abort, "abort", "first", nullptr, "after", true},
    {Kind::starve, "starve", "first", nullptr, "allocation", true},
    {Kind::truncate, "truncate", "row", nullptr, "length", false},
    {Kind::fork, "fork", "from", "to", nullptr, false},
    {Kind::starve_fork, "starve_fork", "from", "to", "allocation", false},
    {Kind::reset, "reset", "row", nullptr, nullptr, false},
    {Kind::overfill, "overfill", "row", nullptr, "beyond", true},
}};

const OperationWords& words_of(Kind kind) {
  for (const OperationWords& words : kWords) {
    if (words.kind == kind) return words;
  }
  KVLAB_INVARIANT(false, "[conformance.replay] an operation without words");
}

/// The numbers of a shape, by name.
constexpr std::array<std::pair<const char*, int64_t CacheShape::*>, 9> kDimensions = {{
    {"layers", &CacheShape::layers},
    {"rows", &CacheShape::rows},
    {"query_heads", &CacheShape::query_heads},
    {"kv_heads", &CacheShape::kv_heads},
    {"key_dim", &CacheShape::key_dim},
    {"value_dim", &CacheShape::value_dim},
    {"max_length", &CacheShape::max_length},
    {"max_step_tokens", &CacheShape::max_step_tokens},
    {"window", &CacheShape::window},
}};

constexpr std::array<std::pair<const char*, at::ScalarType>, 2> kTypes = {
    {{"f32", at::kFloat}, {"bf16", at::kBFloat16}}};

// A replay is a small case, and a slip of the keyboard must not ask for all memory.
constexpr int64_t kMostDimension = 4096;
constexpr double kMostBytes = 1 << 30;

const std::vector<std::string> kHeader = {"case", "cache", "shape", "seed"};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  if (text.empty() || text.back() == separator) parts.emplace_back();
  return parts;
}

class ReplayReader {
 public:
  explicit ReplayReader(const std::string& text) : stream_(text) {}

  Replay read() {
    expect_line(kFirstLine);
    check(line_ == kFirstLine, "the file must start with '", kFirstLine, "', got '", line_, "'");
    read_header();
    for (; line_ != kLastLine; expect_line("an operation or 'end'")) {
      check(replay_.operations.size() < kMostOperations, "more than ", kMostOperations,
            " operations");
      replay_.operations.push_back(read_operation());
    }
    check(!next_line(), "text after 'end': '", line_, "'");
    return std::move(replay_);
  }

 private:
  template <typename... Parts>
  void check(bool condition, const Parts&... parts) const {
    KVLAB_CHECK(condition, "[conformance.replay] line ", number_, ": ", parts...);
  }

  // The next line that says something.
  bool next_line() {
    while (std::getline(stream_, line_)) {
      ++number_;
      if (!line_.empty() && line_.front() != '#') return true;
    }
    return false;
  }

  void expect_line(const char* what) {
    check(next_line(), "the file ends where ", what, " is missing");
  }

  // Leaves the first line behind the header in `line_`.
  void read_header() {
    std::set<std::string> missing(kHeader.begin(), kHeader.end());
    for (expect_line("the header"); !missing.empty(); expect_line("the header")) {
      const size_t space = line_.find(' ');
      const std::string key = line_.substr(0, space);
      check(is_header(key), "unknown header '", key, "'.", suggestion(key, kHeader));
      check(missing.erase(key) == 1, "'", key, "' is there twice");
      check(space != std::string::npos && space + 1 < line_.size(), "'", key, "' has no value");
      const std::string value = line_.substr(space + 1);
      if (key == "case") read_case(value);
      if (key == "cache") read_cache(value);
      if (key == "shape") read_shape(value);
      if (key == "seed") replay_.seed = number<uint64_t>("seed", value, 0, UINT64_MAX);
    }
  }

  static bool is_header(const std::string& key) {
    return std::find(kHeader.begin(), kHeader.end(), key) != kHeader.end();
  }

  void read_case(const std::string& name) {
    check(option_label(name) == "_" + name, "case '", name,
          "' has other characters than letters, digits and _");
    replay_.chosen.name = name;
  }

  void read_cache(const std::string& spec) {
    try {
      replay_.chosen.plugin = parse_component_spec(spec).type;
    } catch (const UserError& error) {
      check(false, error.what());
    }
    replay_.chosen.spec = spec;
  }

  void read_shape(const std::string& value) {
    std::map<std::string, std::string> values = pairs(value);
    CacheShape& shape = replay_.chosen.shape;
    for (const auto& [name, member] : kDimensions) {
      shape.*member = number<int64_t>(name, take(values, name), 0, kMostDimension);
    }
    const std::string type = take(values, "dtype");
    const auto* known = std::find_if(kTypes.begin(), kTypes.end(),
                                     [&](const auto& entry) { return type == entry.first; });
    check(known != kTypes.end(), "dtype must be f32 or bf16, got '", type, "'");
    shape.dtype = known->second;
    expect_empty(values);
    try {
      shape.validate();
    } catch (const UserError& error) {
      check(false, error.what());
    }
    const double bytes = static_cast<double>(shape.token_bytes_per_layer() * shape.layers) *
                         static_cast<double>(shape.rows * shape.max_length);
    check(bytes <= kMostBytes, "K and V of this shape take ", bytes, " bytes, at most ",
          kMostBytes, " are allowed");
  }

  Operation read_operation() {
    const size_t space = line_.find(' ');
    const std::string name = line_.substr(0, space);
    check(!is_header(name), "'", name, "' is there twice");
    std::vector<std::string> known;
    const OperationWords* words = nullptr;
    for (const OperationWords& candidate : kWords) {
      known.emplace_back(candidate.name);
      if (name == candidate.name) words = &candidate;
    }
    check(words != nullptr, "unknown operation '", name, "'.", suggestion(name, known));
    check(space != std::string::npos, "'", name, "' has no numbers");
    std::map<std::string, std::string> values = pairs(line_.substr(space + 1));
    const CacheShape& shape = replay_.chosen.shape;
    Operation operation;
    operation.kind = words->kind;
    operation.row = number<int>(words->row, take(values, words->row), 0, shape.rows - 1);
    if (words->other != nullptr) {
      operation.other = number<int>(words->other, take(values, words->other), 0, shape.rows - 1);
    }
    if (words->amount != nullptr) {
      operation.amount =
          number<int64_t>(words->amount, take(values, words->amount), 0, kMostAmount);
    }
    if (words->tokens) operation.tokens = read_tokens(take(values, "tokens"));
    expect_empty(values);
    return operation;
  }

  std::vector<int64_t> read_tokens(const std::string& value) {
    std::vector<int64_t> tokens;
    for (const std::string& part : split(value, ',')) {
      tokens.push_back(part == "-" ? -1 : number<int64_t>("tokens", part, 0, kMostAmount));
    }
    check(static_cast<int64_t>(tokens.size()) == replay_.chosen.shape.rows, "tokens are given for ",
          tokens.size(), " rows, the shape has ", replay_.chosen.shape.rows);
    return tokens;
  }

  // "a=1 b=2"
  std::map<std::string, std::string> pairs(const std::string& text) const {
    std::map<std::string, std::string> values;
    for (const std::string& word : split(text, ' ')) {
      const size_t equals = word.find('=');
      check(equals != std::string::npos && equals > 0 && equals + 1 < word.size(),
            "expected name=value, got '", word, "'");
      const std::string key = word.substr(0, equals);
      check(values.emplace(key, word.substr(equals + 1)).second, "'", key, "' is there twice");
    }
    return values;
  }

  std::string take(std::map<std::string, std::string>& values, const char* name) const {
    const auto found = values.find(name);
    check(found != values.end(), "'", name, "' is missing");
    std::string value = std::move(found->second);
    values.erase(found);
    return value;
  }

  void expect_empty(const std::map<std::string, std::string>& values) const {
    if (!values.empty()) check(false, "unknown '", values.begin()->first, "'");
  }

  template <typename Number, typename Least, typename Most>
  Number number(const char* name, const std::string& text, Least least, Most most) const {
    Number value{};
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    check(error == std::errc() && stop == text.data() + text.size() &&
              value >= static_cast<Number>(least) && value <= static_cast<Number>(most),
          name, " must be a number from ", least, " to ", most, ", got '", text, "'");
    return value;
  }

  std::istringstream stream_;
  std::string line_;
  int64_t number_ = 0;
  Replay replay_;
};

std::string as_comment(const std::string& text) {
  std::string comment;
  for (const std::string& line : split(text, '\n')) comment += "# " + line + "\n";
  return comment;
}

}  // namespace

std::string to_text(const Operation& operation) {
  const OperationWords& words = words_of(operation.kind);
  std::string text = detail::concat(words.name, " ", words.row, "=", operation.row);
  if (words.other != nullptr) text += detail::concat(" ", words.other, "=", operation.other);
  if (words.amount != nullptr) text += detail::concat(" ", words.amount, "=", operation.amount);
  if (!words.tokens) return text;
  text += " tokens=";
  for (size_t row = 0; row < operation.tokens.size(); ++row) {
    const int64_t tokens = operation.tokens[row];
    text += (row > 0 ? "," : "") + (tokens < 0 ? "-" : std::to_string(tokens));
  }
  return text;
}

std::string write_replay(const Replay& replay) {
  const CacheCase& chosen = replay.chosen;
  std::string text = std::string(kFirstLine) + "\n";
  text += as_comment(
      "Operations on a cache. Run them with: kvlab_conformance_tests --replay FILE\n"
      "A row takes no more tokens than fit, '-' leaves it out of the step; lengths are taken\n"
      "modulo the row's length + 1.");
  if (!replay.failure.empty()) text += as_comment("They fail with: " + replay.failure);
  text += "case " + chosen.name + "\ncache " + chosen.spec + "\nshape";
  for (const auto& [name, member] : kDimensions) {
    text += detail::concat(" ", name, "=", chosen.shape.*member);
  }
  for (const auto& [name, type] : kTypes) {
    if (type == chosen.shape.dtype) text += std::string(" dtype=") + name;
  }
  text += detail::concat("\nseed ", replay.seed, "\n");
  for (const Operation& operation : replay.operations) text += to_text(operation) + "\n";
  return text + kLastLine + "\n";
}

Replay read_replay(const std::string& text) { return ReplayReader(text).read(); }

}  // namespace kvlab::conformance

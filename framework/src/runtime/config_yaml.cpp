// Text to tree: yaml-cpp's events, and every rule that its own loader leaves out.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <sstream>

#include "config_tree.h"
#include "kvlab/core/error.h"

namespace kvlab::config {

namespace {

using Kind = ConfigNode::Kind;

// Bytes of the UTF-8 character at `text[i]`, or 0 where it is malformed (overlong, surrogate, cut).
size_t utf8_length(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned char lead = byte(i);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || i + length > text.size()) return 0;
  for (size_t k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(i + 1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
      (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
    return 0;
  }
  return length;
}

// Columns count characters, not bytes.
void advance(Place& place, std::string_view passed) {
  for (const char c : passed) {
    if (c == '\n') {
      ++place.line;
      place.column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {
      ++place.column;
    }
  }
}

Place place_of(std::string_view text, size_t position,
               const std::shared_ptr<const Source>& source) {
  Place place{source, 1, 1};
  advance(place, text.substr(0, position));
  return place;
}

void check_bytes(std::string_view text, const std::shared_ptr<const Source>& source) {
  const auto refuse = [&](size_t i, const std::string& message) {
    fail(place_of(text, i, source), "", message);
  };
  if (text.size() > kMaximumBytes) {
    refuse(0, detail::concat("a config has at most ", kMaximumBytes, " bytes, got ", text.size(),
                             "; keep data in files of its own"));
  }
  if (text.starts_with("\xEF\xBB\xBF")) {
    refuse(0, "the file starts with a byte order mark; save it as UTF-8 without one");
  }
  bool line_start = true, before_document = true;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '\0') refuse(i, "a NUL byte cannot stand in a config; is this a text file?");
    if (c == '\t') {
      refuse(i, "tabs are not allowed; write spaces, or \\t inside double quotes");
    }
    const bool carriage = c == '\r' && i + 1 < text.size() && text[i + 1] == '\n';
    const auto code = static_cast<unsigned char>(c);
    if ((code < 0x20 && c != '\n' && !carriage) || code == 0x7F) {
      refuse(i, detail::concat("control characters are not allowed, got byte ", int{code},
                               "; write an escape inside double quotes"));
    }
    if (line_start && before_document && c == '%') {
      refuse(i, "YAML directives (%YAML, %TAG) are not allowed; delete the line");
    }
    if (line_start && c != '#' && c != '\n' && c != '\r') before_document = false;
    line_start = c == '\n';
    const size_t length = utf8_length(text, i);
    if (length == 0) refuse(i, "the file is not valid UTF-8; save it as UTF-8");
    i += length;
  }
}

bool all_of(std::string_view text, std::string_view allowed) {
  return text.find_first_not_of(allowed) == std::string_view::npos;
}

// Why a plain scalar is refused: readers of YAML 1.1 and 1.2 give it different values.
std::string ambiguity(const std::string& text) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static constexpr std::array<std::string_view, 6> kBooleans = {"yes", "no", "on", "off", "y", "n"};
  if (std::find(kBooleans.begin(), kBooleans.end(), lower) != kBooleans.end()) {
    return detail::concat("'", text, "' is a boolean for some YAML readers and a text for others; "
                          "write true or false, or quote it");
  }
  if ((lower == "true" || lower == "false") && lower != text) {
    return detail::concat("booleans are written in lower case, got '", text, "'; write ", lower);
  }
  std::string_view body = lower;
  if (body.starts_with('+') || body.starts_with('-')) body.remove_prefix(1);
  if (body == ".inf" || body == ".nan") {
    return detail::concat("numbers must be finite, got '", text, "'");
  }
  if (body.empty() || body.front() < '0' || body.front() > '9') return "";
  if (body.size() > 2 && body.front() == '0') {
    const std::string_view digits = body.substr(2);
    if (body[1] == 'x' && all_of(digits, "0123456789abcdef_")) {
      return detail::concat("numbers are decimal, got the hexadecimal '", text,
                            "'; write it in decimal or quote it");
    }
    if (body[1] == 'o' && all_of(digits, "01234567_")) {
      return detail::concat("numbers are decimal, got the octal '", text,
                            "'; write it in decimal or quote it");
    }
    if (body[1] == 'b' && all_of(digits, "01_")) {
      return detail::concat("numbers are decimal, got the binary '", text,
                            "'; write it in decimal or quote it");
    }
  }
  if (body.size() > 1 && body.front() == '0' && all_of(body.substr(0, 2), "0123456789") &&
      all_of(body, "0123456789._e+-")) {
    return detail::concat("'", text, "' is octal for some YAML readers and decimal for others; "
                          "drop the leading zero or quote it");
  }
  if (body.find('_') != std::string_view::npos && all_of(body, "0123456789_.")) {
    return detail::concat("numbers are written without underscores, got '", text,
                          "'; drop them or quote it");
  }
  if (body.find(':') != std::string_view::npos && body.back() != ':' &&
      all_of(body, "0123456789:.")) {
    return detail::concat("'", text, "' is a number in base 60 for some YAML readers; quote it");
  }
  return "";
}

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, std::shared_ptr<const Source> source)
      : text_(text), source_(std::move(source)), counted_place_{source_, 1, 1} {}

  bool has_root() const { return root_.has_value(); }
  Tree take_root() { return std::move(*root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (root_) {
      refuse(mark, "one file holds one document, got a second one or stray text after the first; "
                   "delete it or move it to a file of its own");
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check_properties(mark, anchor);
    Place place = at(mark);
    const std::string word = null_word(mark);
    if (expects_key()) {
      fail(place, path(), detail::concat("a key must be a text, got ",
                                         word.empty() ? "nothing" : "'" + word + "'"));
    }
    if (!word.empty()) {
      fail(place, path(), detail::concat("a null value ('", word, "') means nothing here; leave "
                                         "the key out, or quote it"));
    }
    // The event carries the place of the next token; the key, dash or comma before is meant.
    if (!frames_.empty() && frames_.back().tree.kind == Kind::map) {
      place = frames_.back().key_place;
    } else {
      size_t back = std::min<size_t>(static_cast<size_t>(mark.pos), text_.size());
      while (back > 0 && std::string_view("-,[").find(text_[back - 1]) == std::string_view::npos) {
        --back;
      }
      if (back > 0) place = place_of(text_, back - 1, source_);
    }
    fail(place, path(), "the value is missing; write one, or \"\" for an empty text");
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark); }

  void OnAnchor(const YAML::Mark& mark, const std::string&) override { refuse_anchor(mark); }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_properties(mark, anchor);
    const bool quoted = tag == "!";
    if (value.find('\0') != std::string::npos) {
      refuse(mark, "a text cannot hold the character NUL; drop \\0");
    }
    if (expects_key()) {
      begin_value(mark, value, quoted);
      return;
    }
    if (!quoted) {
      const std::string reason = ambiguity(value);
      if (!reason.empty()) refuse(mark, reason);
    }
    count(mark);
    Tree tree;
    tree.kind = Kind::scalar;
    tree.place = at(mark);
    tree.text = value;
    tree.quoted = quoted;
    attach(std::move(tree));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    start(mark, anchor, Kind::list);
  }
  void OnSequenceEnd() override { finish(); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    start(mark, anchor, Kind::map);
  }
  void OnMapEnd() override { finish(); }

 private:
  struct Frame {
    Tree tree;
    std::optional<std::string> key;  // of a map: read, and waiting for its value
    Place key_place;
  };

  // Marks come in order but for a few, so counting goes on from the last one.
  Place at(const YAML::Mark& mark) {
    const auto position = std::min(static_cast<size_t>(std::max(mark.pos, 0)), text_.size());
    if (position < counted_) {
      counted_ = 0;
      counted_place_ = Place{source_, 1, 1};
    }
    advance(counted_place_, text_.substr(counted_, position - counted_));
    counted_ = position;
    return counted_place_;
  }

  std::string path() const {
    std::string path = source_->path;
    // An override's value is parsed inside a list of its own.
    for (size_t i = source_->is_override ? 1 : 0; i < frames_.size(); ++i) {
      const Tree& tree = frames_[i].tree;
      if (tree.kind == Kind::list) path = join_path(path, std::to_string(tree.items.size()));
      if (frames_[i].key) path = join_path(path, *frames_[i].key);
    }
    return path;
  }

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& message) {
    fail(at(mark), path(), message);
  }

  [[noreturn]] void refuse_anchor(const YAML::Mark& mark) {
    refuse(mark, "anchors and aliases (&name, *name) are not allowed; write the value out, or "
                 "share it with use: FILE");
  }

  bool expects_key() const {
    return !frames_.empty() && frames_.back().tree.kind == Kind::map && !frames_.back().key;
  }

  void check_properties(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != YAML::NullAnchor) refuse_anchor(mark);
    const auto position = static_cast<size_t>(std::max(mark.pos, 0));
    if (position < text_.size() && text_[position] == '!') {
      refuse(mark, "tags (!name) are not allowed; a value's type follows from its key");
    }
  }

  // The word that made the parser report null, or nothing where the value is empty.
  std::string null_word(const YAML::Mark& mark) const {
    const std::string_view rest =
        text_.substr(std::min<size_t>(static_cast<size_t>(std::max(mark.pos, 0)), text_.size()));
    for (const std::string_view word : {"~", "null", "Null", "NULL"}) {
      if (!rest.starts_with(word)) continue;
      const char next = rest.size() > word.size() ? rest[word.size()] : '\n';
      // "null: 1" after an empty value is the next key, unless a key is what we are reading.
      if (next == ':' && !expects_key()) continue;
      if (std::string_view(" \n\r,]}:#").find(next) != std::string_view::npos) {
        return std::string(word);
      }
    }
    return "";
  }

  void count(const YAML::Mark& mark) {
    if (++nodes_ > kMaximumNodes) {
      refuse(mark, detail::concat("a file holds at most ", kMaximumNodes, " values; split it"));
    }
  }

  void begin_value(const YAML::Mark& mark, const std::string& key, bool quoted) {
    Frame& frame = frames_.back();
    const std::string key_path = join_path(path(), key);
    if (key == "<<" && !quoted) {
      fail(at(mark), path(), "merge keys (<<) are not allowed; share maps with use: FILE");
    }
    if (key.empty()) fail(at(mark), path(), "a key must not be the empty text");
    const Member* earlier = frame.tree.find(key);
    if (earlier != nullptr) {
      fail(at(mark), key_path, detail::concat("the key stands twice in this map, first in line ",
                                              earlier->place.line, "; delete one"));
    }
    frame.key = key;
    frame.key_place = at(mark);
  }

  void start(const YAML::Mark& mark, YAML::anchor_t anchor, Kind kind) {
    check_properties(mark, anchor);
    if (expects_key()) {
      refuse(mark, detail::concat("a key must be a text, got a ",
                                  kind == Kind::map ? "map" : "list"));
    }
    if (frames_.size() >= static_cast<size_t>(kMaximumDepth)) {
      refuse(mark, detail::concat("maps and lists are nested at most ", kMaximumDepth,
                                  " deep; flatten the file"));
    }
    count(mark);
    Frame frame;
    frame.tree.kind = kind;
    frame.tree.place = at(mark);
    frames_.push_back(std::move(frame));
  }

  void finish() {
    Tree tree = std::move(frames_.back().tree);
    frames_.pop_back();
    attach(std::move(tree));
  }

  void attach(Tree tree) {
    if (frames_.empty()) {
      root_ = std::move(tree);
      return;
    }
    Frame& frame = frames_.back();
    if (frame.tree.kind == Kind::list) {
      frame.tree.items.push_back(std::move(tree));
    } else {
      frame.tree.members.push_back({*frame.key, frame.key_place, std::move(tree)});
      frame.key.reset();
    }
  }

  std::string_view text_;
  std::shared_ptr<const Source> source_;
  std::vector<Frame> frames_;
  std::optional<Tree> root_;
  int nodes_ = 0;
  size_t counted_ = 0;   // bytes of `text_` that `counted_place_` has passed
  Place counted_place_;
};

}  // namespace

Tree parse_yaml(std::string_view text, const std::shared_ptr<const Source>& source) {
  check_bytes(text, source);
  std::istringstream stream{std::string(text)};
  TreeBuilder builder(text, source);
  try {
    YAML::Parser parser(stream);
    // Always one call more than there are documents: the second one must find nothing.
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    fail(Place{source, error.mark.line + 1, error.mark.column + 1}, source->path,
         detail::concat("not valid YAML: ", error.msg));
  }
  if (!builder.has_root()) {
    fail(Place{source, 1, 1}, "", "the file is empty; write at least one key");
  }
  return builder.take_root();
}

}  // namespace kvlab::config

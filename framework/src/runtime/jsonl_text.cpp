#include "kvlab/runtime/jsonl_text.h"

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

using Json = nlohmann::json;

[[noreturn]] void fail(const std::string& where, const std::string& message) {
  throw UserError(where + ": " + message);
}

TextPiece read_piece(const Json& value, const std::string& name, const std::string& where) {
  TextPiece piece;
  if (value.is_string()) {
    piece.text = value.get<std::string>();
    if (piece.text.empty()) fail(where, "'" + name + "' is empty; write at least one character");
    return piece;
  }
  if (!value.is_array()) {
    fail(where, "'" + name + "' is a text or a list of token ids, got " + value.type_name());
  }
  if (value.empty()) fail(where, "'" + name + "' is an empty list; give at least one token id");
  for (const Json& id : value) {
    if (!id.is_number_integer()) {
      fail(where, "'" + name + "' wants token ids, which are whole numbers, got " + id.dump());
    }
    piece.ids.push_back(id.get<int64_t>());
  }
  return piece;
}

std::vector<JsonlLine> read_lines(const std::string& path,
                                  const std::function<void(const Json&, JsonlLine&)>& read) {
  std::ifstream file(path, std::ios::binary);
  std::vector<JsonlLine> lines;
  int64_t number = 0;
  for (std::string text; std::getline(file, text);) {
    JsonlLine line;
    line.where = detail::concat(path, ":", ++number);
    const Json object = Json::parse(text, nullptr, false);
    if (object.is_discarded() || !object.is_object()) {
      fail(line.where, text.empty() ? "the line is empty; delete it"
                                    : "the line is no JSON object; write {\"text\": \"...\"}");
    }
    read(object, line);
    lines.push_back(std::move(line));
  }
  if (file.bad() || lines.empty()) fail(path, "the file is empty or unreadable");
  return lines;
}

}  // namespace

std::vector<JsonlLine> read_jsonl_prompts(const std::string& path, const std::string& field) {
  return read_lines(path, [&](const Json& object, JsonlLine& line) {
    const bool text = object.contains(field), ids = field != "ids" && object.contains("ids");
    if (text == ids) {
      fail(line.where, detail::concat("wanted one of '", field, "' and 'ids', got ",
                                      text ? "both" : "neither"));
    }
    const std::string name = text ? field : "ids";
    const Json& value = object.at(name);
    if (text && field != "ids" && !value.is_string()) {
      fail(line.where, "'" + field + "' is a text, got " + value.type_name());
    }
    if (name == "ids" && !value.is_array()) {
      fail(line.where, std::string("'ids' is a list of token ids, got ") + value.type_name());
    }
    line.pieces.push_back(read_piece(value, name, line.where));
  });
}

std::vector<JsonlLine> read_jsonl_turns(const std::string& path) {
  return read_lines(path, [](const Json& object, JsonlLine& line) {
    if (!object.contains("turns") || !object.at("turns").is_array() || object.at("turns").empty()) {
      fail(line.where,
           "wanted 'turns', a list with at least one turn; write {\"turns\": [\"...\"]}");
    }
    for (const Json& turn : object.at("turns")) {
      line.pieces.push_back(
          read_piece(turn, detail::concat("turns.", line.pieces.size()), line.where));
    }
  });
}

}  // namespace kvlab

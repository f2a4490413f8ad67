#include "strict_json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "file_bytes.h"
#include "kvlab/core/error.h"
#include "kvlab/model/tensor_file.h"

namespace kvlab::model_file {

using nlohmann::json;

json parse_object(std::string_view text, std::string_view operation, const std::string& path,
                  int depth) {
  const std::string where = detail::concat("[", operation, "] ", path);
  // The parser takes a NUL byte for the end of the text and would ignore what follows.
  KVLAB_CHECK(text.find('\0') == std::string_view::npos, where, ": the JSON text has a NUL byte");
  std::vector<std::set<std::string>> keys;
  const auto check = [&](int level, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        KVLAB_CHECK(level < depth, where, ": the JSON text nests deeper than ", depth, " levels");
        if (event == json::parse_event_t::object_start) keys.emplace_back();
        break;
      case json::parse_event_t::object_end: keys.pop_back(); break;
      case json::parse_event_t::key: {
        const auto& key = value.get_ref<const std::string&>();
        KVLAB_CHECK(keys.back().insert(key).second, where, ": key ", in_quotes(key),
                    " stands twice in one JSON object");
        break;
      }
      default: break;
    }
    return true;
  };
  json object;
  try {
    object = json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& error) {
    // The parser's text may quote bytes of the file.
    std::string reason = error.what();
    for (char& character : reason) {
      if (character < 0x20 || character > 0x7e) character = '?';
    }
    detail::throw_user(detail::concat(where, ": not valid UTF-8 JSON: ", reason));
  }
  KVLAB_CHECK(object.is_object(), where, ": the JSON text is no object");
  return object;
}

json read_object(const std::string& path, std::string_view operation) {
  const MappedFile file(path);
  constexpr size_t kLargest = size_t{64} << 20;
  KVLAB_CHECK_LE(file.bytes().size(), kLargest, "[", operation, "] ", path,
                 " is too large for a JSON description, bytes");
  return parse_object({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
                      operation, path);
}

}  // namespace kvlab::model_file

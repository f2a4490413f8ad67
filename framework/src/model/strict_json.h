// JSON objects from model files, read more strictly than the parser does on its own.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace kvlab::model_file {

/// Parses one JSON object. Throws UserError starting with "[operation] path" for text that is no
/// valid UTF-8 JSON object, holds a NUL byte, repeats a key or nests deeper than `depth`.
nlohmann::json parse_object(std::string_view text, std::string_view operation,
                            const std::string& path, int depth = 32);

/// Reads a whole file and parses it. Throws MissingError where it does not exist, and UserError
/// beyond 64 MiB.
nlohmann::json read_object(const std::string& path, std::string_view operation);

}  // namespace kvlab::model_file

// JSON on standard output, for scripts.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace kvlab {

/// Keys stay in the order they were added.
using Json = nlohmann::ordered_json;

/// Prints one line of JSON. Bytes that are not UTF-8 become U+FFFD, so that any text can be
/// printed.
void print_json(const Json& json);

}  // namespace kvlab

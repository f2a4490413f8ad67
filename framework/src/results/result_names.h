// How results are named in every format that they are written in.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "kvlab/runtime/report_document.h"

namespace kvlab {

/// "higher", "lower" or "none", as in summary.json.
const char* better_name(BetterDirection direction);

/// A metric's group as one JSON object.
std::string group_json(const std::vector<std::pair<std::string, std::string>>& group);

/// A metric's group for people: "prompt_length=4, batch=1".
std::string group_text(const std::vector<std::pair<std::string, std::string>>& group);

}  // namespace kvlab

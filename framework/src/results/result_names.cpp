#include "result_names.h"

#include <nlohmann/json.hpp>

namespace kvlab {

const char* better_name(BetterDirection direction) {
  switch (direction) {
    case BetterDirection::higher: return "higher";
    case BetterDirection::lower: return "lower";
    case BetterDirection::none: return "none";
  }
  return "?";
}

std::string group_json(const std::vector<std::pair<std::string, std::string>>& group) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [key, value] : group) json[key] = value;
  return json.dump();
}

std::string group_text(const std::vector<std::pair<std::string, std::string>>& group) {
  std::string text;
  for (const auto& [key, value] : group) {
    text += (text.empty() ? "" : ", ") + key + "=" + value;
  }
  return text;
}

}  // namespace kvlab

// Single values of a config, read as what they are asked to be. Private. All throw UserError "place:
// path: rule, got ..., what to do".
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/runtime/config_reader.h"

namespace kvlab::config {

int64_t read_integer(const ConfigNode& node, IntegerRange range);
double read_number(const ConfigNode& node, NumberRange range);
bool read_boolean(const ConfigNode& node);
std::string read_text(const ConfigNode& node);
std::string read_choice(const ConfigNode& node, const std::vector<std::string>& choices);

/// Reads every item of a list with `read`; the list is not empty and, but for components, holds
/// nothing twice.
template <typename Read>
auto read_list(const ConfigNode& node, const Read& read) {
  using Value = decltype(read(node));
  if (!node.is_list()) {
    fail_at(node, detail::concat("wanted a list, got ", node.description(),
                                 node.is_scalar() ? "; write [" + node.text() + "]" : ""));
  }
  if (node.items().empty()) fail_at(node, "the list is empty; write at least one value");
  std::vector<Value> values;
  for (const ConfigNode& item : node.items()) {
    Value value = read(item);
    if constexpr (!std::is_same_v<Value, ComponentSpec>) {
      if (std::find(values.begin(), values.end(), value) != values.end()) {
        fail_at(item, detail::concat("the list holds ", item.text(), " twice; delete one"));
      }
    }
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace kvlab::config

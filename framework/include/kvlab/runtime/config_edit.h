// Changes to a config between reading and use, for looking at what is left once an error is gone.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/config_node.h"

namespace kvlab {

struct ConfigEdit {
  std::string path;                        ///< as `ConfigNode::path`
  std::optional<std::string> replacement;  ///< YAML in flow style; nothing: the key is taken out
};

/// As `load_config_file`, and then makes the edits; those whose path is not there do nothing. What
/// replaces a value stands at its place. Requires: the file exists.
ConfigNode load_edited_config(const std::string& path, const std::vector<std::string>& overrides,
                              const std::vector<ConfigEdit>& edits);

}  // namespace kvlab

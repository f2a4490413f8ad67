// Which caches, options and shapes the conformance suite runs over.
#pragma once

#include <string>
#include <vector>

#include "kvlab/cache/cache_shape.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

struct CacheCase {
  std::string name;  ///< cache and options, dtype, KV heads: "paged_block5_bf16_G3"
  std::string plugin;
  std::string spec;  ///< as on a command line
  CacheShape shape;  ///< the model's
  int64_t stored_heads = 0;
  bool first_of_options = false;  ///< one case per option set, for the long tests
  bool refused_step_keeps_bytes = true;  ///< a begin_step that fails leaves the arena as it was
};

/// Every cache of the registry: with several option sets where this file lists some, with its
/// defaults otherwise, so that a new plugin is covered without an edit here.
std::vector<CacheCase> cache_cases(const Registry& registry);

/// Registry with every plugin of this build.
const Registry& builtin_registry();

/// Options of one plugin that are worth their own cases, for `shape`: label and option text.
struct OptionSet {
  std::string label;
  std::string options;  ///< "block_size=5", empty for defaults
  int64_t stored_heads = 0;
  bool refused_step_keeps_bytes = true;
};
std::vector<OptionSet> option_sets(const std::string& plugin, const CacheShape& shape);

}  // namespace kvlab::conformance

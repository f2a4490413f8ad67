#include "cache_cases.h"

#include <set>

namespace kvlab::conformance {

namespace {

// Pairwise different where possible: a swapped axis then shows as a wrong shape or a wrong number.
CacheShape model_shape(int64_t kv_heads, at::ScalarType dtype) {
  CacheShape shape;
  shape.layers = 2;
  shape.query_heads = 6;
  shape.kv_heads = kv_heads;
  shape.rows = 4;
  shape.key_dim = 7;
  shape.value_dim = kv_heads % 2 == 0 ? 7 : 5;
  shape.max_length = 23;
  shape.max_step_tokens = 23;
  shape.dtype = dtype;
  return shape;
}

std::vector<OptionSet> gqa_sets(const CacheShape& shape) {
  const int64_t own = shape.kv_heads;
  std::vector<OptionSet> sets = {
      {"_own_over_preallocated", "", own, true},
      {"_own_over_paged", "inner=paged,inner.block_size=5", own, true},
      {"_own_over_none", "inner=none", own, true},
  };
  for (int64_t heads = 1; heads <= shape.query_heads; ++heads) {
    const std::string count = std::to_string(heads);
    if (heads < own && own % heads == 0) {
      sets.push_back({"_pooled" + count, "kv_heads=" + count, heads, true});
      sets.push_back({"_pooled" + count + "_over_paged",
                      "kv_heads=" + count + ",inner=paged,inner.block_size=3", heads, true});
    }
    if (heads > own && heads % own == 0 && shape.query_heads % heads == 0) {
      sets.push_back({"_expanded" + count, "kv_heads=" + count + ",inner=concat", heads, true});
    }
  }
  return sets;
}

}  // namespace

std::vector<OptionSet> option_sets(const std::string& plugin, const CacheShape& shape) {
  const int64_t own = shape.kv_heads;
  if (plugin == "gqa_shared") return gqa_sets(shape);
  if (plugin == "preallocated") {
    return {{"_fixed", "", own, true},
            {"_doubling1", "growth=doubling,capacity=1", own, false},
            {"_doubling3", "growth=doubling,capacity=3", own, false}};
  }
  if (plugin == "paged") {
    return {{"_block1", "block_size=1", own, true},
            {"_block3", "block_size=3", own, true},
            {"_block5", "block_size=5", own, true},
            {"_block64", "block_size=64", own, true}};
  }
  return {{"", "", own, true}};
}

std::vector<CacheCase> cache_cases(const Registry& registry) {
  std::vector<CacheCase> cases;
  std::set<std::string> seen;
  for (const CacheEntry& entry : registry.caches()) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const int64_t kv_heads : {6, 3, 2, 1}) {
        const CacheShape shape = model_shape(kv_heads, dtype);
        for (const OptionSet& set : option_sets(entry.info.name, shape)) {
          CacheCase made;
          const std::string label = entry.info.name + set.label;
          made.name = label + (dtype == at::kFloat ? "_f32" : "_bf16") + "_G" +
                      std::to_string(kv_heads);
          made.plugin = entry.info.name;
          made.spec = entry.info.name + (set.options.empty() ? "" : ":" + set.options);
          made.shape = shape;
          made.stored_heads = set.stored_heads;
          made.first_of_options = seen.insert(label).second;
          made.refused_step_keeps_bytes = set.refused_step_keeps_bytes;
          cases.push_back(std::move(made));
        }
      }
    }
  }
  return cases;
}

const Registry& builtin_registry() {
  static const Registry* const registry = [] {
    auto* made = new Registry;
    register_builtin_plugins(*made);
    return made;
  }();
  return *registry;
}

}  // namespace kvlab::conformance

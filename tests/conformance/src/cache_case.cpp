#include "kvlab/conformance/cache_case.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <set>
#include <utility>

namespace kvlab::conformance {

namespace {

constexpr int64_t kLongestText = 23;
constexpr int64_t kShortStep = 3;

// Most dimensions differ from each other: a swapped axis then shows as a wrong shape or number. Keys
// and values have equal ones where G is even, since a model mostly has.
CacheShape model_shape(int64_t kv_heads, at::ScalarType dtype, int64_t window) {
  CacheShape shape;
  shape.layers = 2;
  shape.query_heads = 6;
  shape.kv_heads = kv_heads;
  shape.rows = 4;
  shape.key_dim = 7;
  shape.value_dim = kv_heads % 2 == 0 ? 7 : 5;
  shape.max_length = kLongestText;
  shape.max_step_tokens = kLongestText;
  shape.window = window;
  shape.dtype = dtype;
  return shape;
}

std::vector<CacheShape> model_shapes() {
  std::vector<CacheShape> shapes;
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const int64_t kv_heads : {6, 3, 2, 1}) shapes.push_back(model_shape(kv_heads, dtype, 0));
  }
  shapes.push_back(model_shape(3, at::kFloat, 4));
  return shapes;
}

// Storage of a bounded cache follows the longest step: only where that is short does it wrap around
// and give up entries.
std::vector<CacheShape> shapes_with_short_steps() {
  std::vector<CacheShape> shapes = {model_shape(6, at::kFloat, 0), model_shape(3, at::kBFloat16, 0),
                                    model_shape(3, at::kFloat, 4)};
  for (CacheShape& shape : shapes) shape.max_step_tokens = kShortStep;
  return shapes;
}

std::string shape_label(const CacheShape& shape) {
  return std::string(shape.dtype == at::kFloat ? "_f32" : "_bf16") + "_G" +
         std::to_string(shape.kv_heads) +
         (shape.window > 0 ? "_W" + std::to_string(shape.window) : "") +
         (shape.max_step_tokens < shape.max_length ? "_C" + std::to_string(shape.max_step_tokens)
                                                   : "");
}

// Whether storage may be smaller than the longest text, and so give up entries.
bool may_evict(const CacheTraits& traits) {
  return !traits.keeps_nothing && (traits.window > 0 || traits.bounded);
}

// Adds the cache of this option set for every shape, or why it was refused.
void add_cases(const Registry& registry, const CacheEntry& entry, const std::string& options,
               CacheCases& to) {
  CacheCase made;
  made.plugin = entry.info.name;
  made.spec = made.plugin + (options.empty() ? "" : ":" + options);
  bool first = true, evicts = false;
  const auto add = [&](const CacheShape& shape) {
    made.shape = shape;
    made.name = made.plugin + option_label(options) + shape_label(shape);
    made.first_of_options = first;
    try {
      const CacheTraits traits = traits_of(registry, made);
      if (traits.keys_before_position) made.shape.key_dim = 10;
      StorageArena arena;
      registry.make_cache(parse_component_spec(made.spec), made.shape, arena);
      evicts = evicts || may_evict(traits);
    } catch (const std::exception& error) {
      made.first_of_options = false;
      to.refused.push_back({made, error.what()});
      return;
    }
    to.cases.push_back(made);
    first = false;
  };
  for (const CacheShape& shape : model_shapes()) add(shape);
  if (evicts) {
    for (const CacheShape& shape : shapes_with_short_steps()) add(shape);
  }
  if (first) to.useless.push_back(made.spec);
}

void collect_integers(const Registry& registry, const ComponentSpec& spec,
                      std::set<int64_t>& integers) {
  const Options options = registry.cache_options(spec);
  for (const auto& [name, value] : options.values()) {
    if (const auto* integer = std::get_if<int64_t>(&value)) integers.insert(*integer);
    if (const auto* nested = std::get_if<ComponentSpec>(&value)) {
      collect_integers(registry, *nested, integers);
    }
  }
}

}  // namespace

std::string option_label(const std::string& options) {
  if (options.empty()) return "";
  std::string label = "_" + options;
  const auto readable = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  for (char& c : label) {
    if (!readable(c)) c = '_';
  }
  return label;
}

CacheCases cache_cases(const Registry& registry, const std::vector<std::string>& plugins) {
  CacheCases cases;
  for (const std::string& name : plugins) registry.cache(name);  // an unknown name is an error
  for (const CacheEntry& entry : registry.caches()) {
    const bool wanted = plugins.empty() || std::find(plugins.begin(), plugins.end(),
                                                     entry.info.name) != plugins.end();
    if (!wanted) continue;
    add_cases(registry, entry, "", cases);
    for (const std::string& example : entry.info.examples) {
      add_cases(registry, entry, example, cases);
    }
  }
  return cases;
}

CacheTraits traits_of(const Registry& registry, const CacheCase& chosen) {
  return registry.cache_traits(parse_component_spec(chosen.spec), chosen.shape);
}

StoredEntry stored_entry_of(const Registry& registry, const CacheCase& chosen) {
  const ComponentSpec spec = parse_component_spec(chosen.spec);
  const CacheEntry& entry = registry.cache(spec.type);
  if (!entry.stored_entry) return {};
  // Shared: the function is copied into the oracle and its requests refer to these options.
  const auto options = std::make_shared<const Options>(registry.cache_options(spec));
  StoredEntry stored = [options, shape = chosen.shape, function = entry.stored_entry,
                        known = &registry](std::span<const double> heads, int64_t dim) {
    return function({*options, shape, *known}, heads, dim);
  };
  const std::vector<double> zeros(
      static_cast<size_t>(chosen.shape.kv_heads * chosen.shape.key_dim), 0.0);
  // A wrapper around a cache that nobody can follow gives nothing.
  if (stored(zeros, chosen.shape.key_dim).empty()) return {};
  return stored;
}

bool has_short_steps(const CacheCase& chosen) {
  return chosen.shape.max_step_tokens < chosen.shape.max_length;
}

std::vector<int64_t> edge_lengths(const Registry& registry, const CacheCase& chosen) {
  std::set<int64_t> sizes;
  collect_integers(registry, parse_component_spec(chosen.spec), sizes);
  const CacheTraits traits = traits_of(registry, chosen);
  sizes.insert({traits.window, traits.window + traits.sinks, chosen.shape.window});
  const int64_t longest = chosen.shape.max_length;
  std::set<int64_t> lengths = {0, 1, longest - 1, longest};
  for (const int64_t size : sizes) {
    if (size <= 0 || size > longest) continue;
    for (const int64_t near : {size - 1, size, size + 1, 2 * size}) {
      if (near <= longest) lengths.insert(near);
    }
  }
  return {lengths.begin(), lengths.end()};
}

CacheShape small_shape() {
  CacheShape shape;
  shape.layers = 2;
  shape.query_heads = 6;
  shape.kv_heads = 3;
  shape.rows = 3;
  shape.key_dim = 7;
  shape.value_dim = 5;
  shape.max_length = 40;
  shape.max_step_tokens = 40;
  return shape;
}

}  // namespace kvlab::conformance

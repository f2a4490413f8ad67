// What the registry says about an entry, as JSON: the source of `describe` and of the catalogue.
#pragma once

#include <string>

#include "json_output.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {

/// Traits are functions of the shape; they are shown for this one.
inline constexpr const char* kSampleText =
    "12 layers, 12 query heads, 4 KV heads of 64, 1 row of up to 1024 tokens in chunks of "
    "64, f32";

/// kind, name, summary, citation, origin, options, examples; of plugins also `traits` with default
/// options (null with `no_traits_because` where there are none); of caches also `bytes_formula`.
Json describe(const Registry& registry, const CacheEntry& entry);
Json describe(const Registry& registry, const AttentionEntry& entry);
Json describe(const Registry& registry, const PositionEntry& entry);
Json describe(const Registry& registry, const ExperimentEntry& entry);

/// A plugin's traits in words, separated by semicolons.
std::string promises(const Json& description);

}  // namespace kvlab

// What every cache must do, as named properties.
#pragma once

#include <span>
#include <string>

#include "kvlab/conformance/cache_case.h"

namespace kvlab::conformance {

/// Part of a cache's promises that a property tests.
struct CacheProperty {
  const char* name;  ///< as in the test's name: "ForkedRowsDivergeIndependently"
  const char* rule;  ///< one sentence: what holds
  /// Throws Failure (or whatever the cache throws where it must not) unless the property holds.
  void (*run)(const Registry& registry, const CacheCase& chosen);
  /// Empty where the traits promise the property, else the reason why it does not apply: "does not
  /// fork".
  std::string (*not_promised)(const CacheTraits& traits);
  /// It chooses its own shape: further cases of an option set would be the same test again.
  bool once_per_options = false;
};

std::span<const CacheProperty> cache_properties();

/// nullptr where there is none of that name.
const CacheProperty* find_cache_property(const std::string& name);

}  // namespace kvlab::conformance

// What every position plugin must do, as named properties.
#pragma once

#include <span>
#include <string>

#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

struct PositionProperty {
  const char* name;
  const char* rule;  ///< one sentence
  /// Throws Failure unless the position encoding with this spec has the property.
  void (*run)(const Registry& registry, const ComponentSpec& spec);
  std::string (*not_promised)(const PositionTraits& traits);  ///< empty where it applies
};

std::span<const PositionProperty> position_properties();

/// What the properties build encodings for, unless they vary it: the traits for `not_promised` are
/// those for this shape. `table` is undefined; properties make one where it is needed.
PositionShape tested_position_shape();

}  // namespace kvlab::conformance

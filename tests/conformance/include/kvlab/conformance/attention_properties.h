// What every attention plugin must do, as named properties: dense attention in double precision
// over segment lists of every shape.
#pragma once

#include <span>
#include <string>

#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

struct AttentionProperty {
  const char* name;
  const char* rule;  ///< one sentence
  /// Throws Failure unless the attention with this spec has the property.
  void (*run)(const Registry& registry, const ComponentSpec& spec);
  std::string (*not_promised)(const AttentionTraits& traits);  ///< empty where it applies
};

std::span<const AttentionProperty> attention_properties();

}  // namespace kvlab::conformance

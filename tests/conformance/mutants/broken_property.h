// Whether a planted bug breaks a property.
#pragma once

#include <exception>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

/// What the property `name` says against the component, or nothing where it holds. Whatever is
/// thrown breaks it. Throws PluginError where no property has that name.
template <typename Property>
std::optional<std::string> what_breaks(std::span<const Property> properties, std::string_view name,
                                       const Registry& registry, const ComponentSpec& spec) {
  for (const Property& property : properties) {
    if (property.name != name) continue;
    try {
      property.run(registry, spec);
    } catch (const std::exception& error) {
      return error.what();
    }
    return std::nullopt;
  }
  throw PluginError("no property is named " + std::string(name));
}

}  // namespace kvlab::conformance

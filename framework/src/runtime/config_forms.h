// The forms that values may have, as readers note them for the schema. Private.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvlab/runtime/config_schema.h"

namespace kvlab::config {

ValueForm form_of(ValueType type);
ValueForm integer_form(IntegerRange range);
ValueForm number_form(NumberRange range);
ValueForm choice_form(const std::vector<std::string>& choices);
/// `key` says which table of the registry the component is from.
ValueForm component_form(std::string_view key);
ValueForm list_form(ValueForm item);

/// Notes a form of a key and, where the key may be absent, what then holds. Nothing without a
/// schema.
void note(const std::shared_ptr<MapSchema>& schema, std::string_view key, ValueForm form,
          const std::optional<std::string>& fallback = {});

/// The schema of the map under the key, or of the maps in its list, one for all that stand there.
std::shared_ptr<MapSchema> map_below(const std::shared_ptr<MapSchema>& schema,
                                     std::string_view name, bool in_list);

}  // namespace kvlab::config

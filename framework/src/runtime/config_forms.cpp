#include "config_forms.h"

#include <utility>

#include "config_values.h"

namespace kvlab {

namespace config {

namespace {

// Which table of the registry a component's key points into.
std::string component_kind(std::string_view key) {
  for (const char* kind : {"cache", "attention", "position"}) {
    if (key == kind || key == std::string(kind) + "s") return kind;
  }
  return "";
}

bool same(const ValueForm& left, const ValueForm& right) {
  if (left.type != right.type) return false;
  if (left.type == ValueType::list) return same(*left.item, *right.item);
  return left.choices == right.choices && left.component == right.component &&
         left.integers.minimum == right.integers.minimum &&
         left.integers.maximum == right.integers.maximum &&
         left.numbers.minimum == right.numbers.minimum &&
         left.numbers.maximum == right.numbers.maximum;
}

void add_form(KeySchema& key, ValueForm form) {
  for (const ValueForm& known : key.forms) {
    if (same(known, form)) return;
  }
  key.forms.push_back(std::move(form));
}

}  // namespace

ValueForm form_of(ValueType type) {
  ValueForm form;
  form.type = type;
  return form;
}

ValueForm integer_form(IntegerRange range) {
  ValueForm form = form_of(ValueType::integer);
  form.integers = range;
  return form;
}

ValueForm number_form(NumberRange range) {
  ValueForm form = form_of(ValueType::number);
  form.numbers = range;
  return form;
}

ValueForm choice_form(const std::vector<std::string>& choices) {
  ValueForm form = form_of(ValueType::choice);
  form.choices = choices;
  return form;
}

ValueForm component_form(std::string_view key) {
  ValueForm form = form_of(ValueType::component);
  form.component = component_kind(key);
  return form;
}

ValueForm list_form(ValueForm item) {
  ValueForm form = form_of(ValueType::list);
  form.item = std::make_shared<const ValueForm>(std::move(item));
  return form;
}

void note(const std::shared_ptr<MapSchema>& schema, std::string_view key, ValueForm form,
          const std::optional<std::string>& fallback) {
  if (!schema) return;
  KeySchema& known = schema->at(key);
  add_form(known, std::move(form));
  if (fallback && !known.fallback) known.fallback = fallback;
}

std::shared_ptr<MapSchema> map_below(const std::shared_ptr<MapSchema>& schema,
                                     std::string_view name, bool in_list) {
  if (!schema) return nullptr;
  KeySchema& key = schema->at(name);
  for (const ValueForm& form : key.forms) {
    if (!in_list && form.type == ValueType::map) return form.map;
    if (in_list && form.type == ValueType::list && form.item->type == ValueType::map) {
      return form.item->map;
    }
  }
  ValueForm form = form_of(ValueType::map);
  form.map = std::make_shared<MapSchema>();
  std::shared_ptr<MapSchema> map = form.map;
  key.forms.push_back(in_list ? list_form(std::move(form)) : std::move(form));
  return map;
}

}  // namespace config

void check_form(const ConfigNode& node, const ValueForm& form) {
  switch (form.type) {
    case ValueType::text:
    case ValueType::path: config::read_text(node); break;
    case ValueType::boolean: config::read_boolean(node); break;
    case ValueType::integer: config::read_integer(node, form.integers); break;
    case ValueType::number: config::read_number(node, form.numbers); break;
    case ValueType::choice: config::read_choice(node, form.choices); break;
    case ValueType::component: read_component(node); break;
    case ValueType::map: ConfigReader{node}; break;
    case ValueType::list:
      if (form.item->type == ValueType::map) {
        if (!node.is_list()) {
          fail_at(node, detail::concat("wanted a list of maps, got ", node.description()));
        }
        if (node.items().empty()) fail_at(node, "the list is empty; write at least one map");
      } else if (!node.is_list() || node.items().empty()) {
        config::read_list(node, [](const ConfigNode& item) { return item.description(); });
      }
  }
}

}  // namespace kvlab

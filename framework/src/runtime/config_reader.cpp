#include "kvlab/runtime/config_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "config_tree.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/config_error.h"
#include "kvlab/runtime/config_schema.h"

namespace kvlab {

struct ConfigReader::State {
  ConfigNode node;
  std::shared_ptr<MapSchema> schema;             // what is asked is noted there; mostly none
  std::vector<std::string> asked;                // in the order of asking, for suggestions
  std::vector<std::shared_ptr<State>> children;  // readers handed out for values of this map
};

namespace config {

bool looks_like_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return !text.empty() && stop == text.data() + text.size() && error != std::errc::invalid_argument;
}

}  // namespace config

namespace {

std::string format(double value) { return detail::concat(value); }

std::string range_text(IntegerRange range) {
  const IntegerRange all;
  const bool low = range.minimum != all.minimum, high = range.maximum != all.maximum;
  if (low && high) return detail::concat("from ", range.minimum, " to ", range.maximum);
  if (low) return detail::concat("of at least ", range.minimum);
  return detail::concat("of at most ", range.maximum);
}

std::string range_text(NumberRange range) {
  const NumberRange all;
  std::string text;
  if (range.minimum != all.minimum) {
    text += (range.minimum_open ? "above " : "of at least ") + format(range.minimum);
  }
  if (range.maximum != all.maximum) {
    text += (text.empty() ? "" : " and ");
    text += (range.maximum_open ? "below " : "at most ") + format(range.maximum);
  }
  return text;
}

void need_scalar(const ConfigNode& node, const char* wanted) {
  if (!node.is_scalar()) {
    fail_at(node, detail::concat("wanted ", wanted, ", got ", node.description()));
  }
}

template <typename T>
T parse_plain(const ConfigNode& node, const char* wanted) {
  need_scalar(node, wanted);
  const std::string& text = node.text();
  if (node.quoted()) {
    fail_at(node, detail::concat("wanted ", wanted, ", got the text \"", text,
                                 config::looks_like_number(text) ? "\"; drop the quotes" : "\""));
  }
  T value{};
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    fail_at(node, detail::concat("wanted ", wanted, ", got '", text, "', which is out of reach of ",
                                 std::is_integral_v<T> ? "64 bits" : "a double"));
  }
  if (error != std::errc{} || stop != text.data() + text.size()) {
    const bool fraction = std::is_integral_v<T> && config::looks_like_number(text);
    fail_at(node, detail::concat("wanted ", wanted, ", got '", text, "'",
                                 fraction ? "; write it as digits only" : ""));
  }
  return value;
}

int64_t read_integer(const ConfigNode& node, IntegerRange range) {
  const auto value = parse_plain<int64_t>(node, "a whole number");
  if (value < range.minimum || value > range.maximum) {
    fail_at(node, detail::concat("wanted a whole number ", range_text(range), ", got ", value));
  }
  return value;
}

double read_number(const ConfigNode& node, NumberRange range) {
  const auto value = parse_plain<double>(node, "a number");
  if (!std::isfinite(value)) {
    fail_at(node, detail::concat("wanted a finite number, got '", node.text(), "'"));
  }
  const bool low = range.minimum_open ? value <= range.minimum : value < range.minimum;
  const bool high = range.maximum_open ? value >= range.maximum : value > range.maximum;
  if (low || high) {
    fail_at(node, detail::concat("wanted a number ", range_text(range), ", got ", node.text()));
  }
  return value;
}

bool read_boolean(const ConfigNode& node) {
  need_scalar(node, "true or false");
  if (!node.quoted() && node.text() == "true") return true;
  if (!node.quoted() && node.text() == "false") return false;
  fail_at(node, detail::concat("wanted true or false, got ", node.description()));
}

std::string read_text(const ConfigNode& node) {
  need_scalar(node, "a text");
  const std::string& text = node.text();
  if (!node.quoted() && config::looks_like_number(text)) {
    fail_at(node, detail::concat("wanted a text, got the number ", text, "; write \"", text, "\""));
  }
  if (!node.quoted() && (text == "true" || text == "false")) {
    fail_at(node,
            detail::concat("wanted a text, got the boolean ", text, "; write \"", text, "\""));
  }
  if (text.empty()) fail_at(node, "wanted a text, got an empty one");
  return text;
}

std::string read_choice(const ConfigNode& node, const std::vector<std::string>& choices) {
  const std::string text = read_text(node);
  if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
    fail_at(node, detail::concat("'", text, "' is not a choice.", suggestion(text, choices)));
  }
  return text;
}

template <typename Read>
auto read_list(const ConfigNode& node, const Read& read) {
  using Value = decltype(read(node));
  if (!node.is_list()) {
    fail_at(node, detail::concat("wanted a list, got ", node.description(),
                                 node.is_scalar() ? "; write [" + node.text() + "]" : ""));
  }
  if (node.items().empty()) fail_at(node, "the list is empty; write at least one value");
  std::vector<Value> values;
  for (const ConfigNode& item : node.items()) {
    Value value = read(item);
    if constexpr (!std::is_same_v<Value, ComponentSpec>) {
      if (std::find(values.begin(), values.end(), value) != values.end()) {
        fail_at(item, detail::concat("the list holds ", item.text(), " twice; delete one"));
      }
    }
    values.push_back(std::move(value));
  }
  return values;
}

// Gives every part of a compact spec the place of the scalar it stands in.
ComponentSpec placed(const ComponentSpec& spec, const ConfigNode& node) {
  ComponentSpec result{spec.type, {}, node.where()};
  for (const auto& [name, option] : spec.options) {
    if (name == "n_kv_groups") {
      fail_at(node, "the option n_kv_groups is refused, since the field uses it for two different "
                    "things; write kv_heads");
    }
    RawOption raw{option.text, nullptr, node.where()};
    if (option.component) {
      raw.component = std::make_shared<const ComponentSpec>(placed(*option.component, node));
    }
    result.options[name] = raw;
  }
  return result;
}

RawOption read_option(const ConfigNode& node) {
  if (node.is_map()) {
    return {"", std::make_shared<const ComponentSpec>(read_component(node)), node.where()};
  }
  if (node.is_list()) {
    fail_at(node, "an option is one value or a nested component, got a list");
  }
  if (node.quoted() && (config::looks_like_number(node.text()) || node.text() == "true" ||
                        node.text() == "false")) {
    fail_at(node, detail::concat("an option in quotes is a text, got \"", node.text(),
                                 "\"; drop the quotes"));
  }
  return {node.text(), nullptr, node.where()};
}

// Which table of the registry a component's key points into.
std::string component_kind(std::string_view key) {
  for (const char* kind : {"cache", "attention", "position"}) {
    if (key == kind || key == std::string(kind) + "s") return kind;
  }
  return "";
}

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

template <typename Values>
std::string flow_list(const Values& values) {
  std::string text = "[";
  for (const auto& value : values) text += (text.size() == 1 ? "" : ", ") + detail::concat(value);
  return text + "]";
}

// The schema of the map under `key`, or of the maps in its list, one for all that stand there.
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

}  // namespace

ComponentSpec read_component(const ConfigNode& node) {
  if (node.is_list()) {
    fail_at(node, "wanted a component, got a list; write {type: NAME, option: value}");
  }
  if (node.is_scalar()) {
    const std::string& text = node.text();
    if (text.empty() || config::looks_like_number(text) || text == "true" || text == "false") {
      fail_at(node, detail::concat("wanted a component, got ", node.description(),
                                   "; write its name, or {type: NAME, option: value}"));
    }
    ComponentSpec spec;
    try {
      spec = parse_component_spec(text);
    } catch (const UserError& error) {
      fail_at(node, error.what());
    }
    return placed(spec, node);
  }
  const ConfigNode* type = node.find("type");
  if (type == nullptr) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : node.entries()) keys.push_back(key);
    const std::vector<std::string> near = near_names("type", keys);
    fail_at(node, detail::concat("a component needs the key type; write {type: NAME, ",
                                 "option: value}",
                                 near.empty() ? "" : " (is '" + near.front() + "' a slip?)"));
  }
  ComponentSpec spec{read_text(*type), {}, node.where()};
  for (const auto& [key, value] : node.entries()) {
    if (key != "type") spec.options[key] = read_option(value);
  }
  return spec;
}

ConfigReader::ConfigReader(const ConfigNode& map) : state_(std::make_shared<State>()) {
  if (!map.is_map()) {
    fail_at(map, detail::concat("wanted a map of keys and values, got ", map.description()));
  }
  state_->node = map;
  if (SchemaRecording* recording = SchemaRecording::current()) {
    state_->schema = recording->attach(&state_->node, nullptr);
  }
}

const ConfigNode& ConfigReader::node() const { return state_->node; }

const ConfigNode* ConfigReader::ask(std::string_view key) {
  if (std::find(state_->asked.begin(), state_->asked.end(), key) == state_->asked.end()) {
    state_->asked.emplace_back(key);
    if (state_->schema) state_->schema->at(key);
  }
  return state_->node.find(key);
}

const ConfigNode& ConfigReader::need(std::string_view key) {
  const bool first = std::find(state_->asked.begin(), state_->asked.end(), key) ==
                     state_->asked.end();
  const ConfigNode* node = ask(key);
  if (first && state_->schema) ++state_->schema->at(key).needed;
  if (node != nullptr) return *node;
  // A key close to the wanted one is likelier a slip than an absence.
  std::vector<std::string> unknown;
  for (const auto& [name, value] : state_->node.entries()) {
    if (std::find(state_->asked.begin(), state_->asked.end(), name) == state_->asked.end()) {
      unknown.push_back(name);
    }
  }
  const std::vector<std::string> near = near_names(key, unknown);
  fail_at(state_->node, detail::concat("the key '", key, "' is required and missing",
                                       near.empty() ? "" : "; is '" + near.front() + "' a slip?"));
}

namespace {

// Notes a form of a key and, where the key may be absent, what then holds.
void note(const std::shared_ptr<MapSchema>& schema, std::string_view key, ValueForm form,
          const std::optional<std::string>& fallback = {}) {
  if (!schema) return;
  KeySchema& known = schema->at(key);
  add_form(known, std::move(form));
  if (fallback && !known.fallback) known.fallback = fallback;
}

}  // namespace

bool ConfigReader::has(std::string_view key) { return ask(key) != nullptr; }

ConfigNode ConfigReader::value(std::string_view key) {
  const ConfigNode& node = need(key);
  if (state_->schema) state_->schema->at(key).raw = true;
  return node;
}

std::optional<ConfigNode> ConfigReader::optional_value(std::string_view key) {
  const ConfigNode* node = ask(key);
  if (state_->schema) state_->schema->at(key).raw = true;
  return node == nullptr ? std::nullopt : std::optional(*node);
}

std::string ConfigReader::text(std::string_view key) {
  note(state_->schema, key, form_of(ValueType::text));
  return read_text(need(key));
}

std::string ConfigReader::text_or(std::string_view key, const std::string& fallback) {
  note(state_->schema, key, form_of(ValueType::text), fallback);
  return optional_text(key).value_or(fallback);
}

std::optional<std::string> ConfigReader::optional_text(std::string_view key) {
  note(state_->schema, key, form_of(ValueType::text));
  const ConfigNode* node = ask(key);
  return node == nullptr ? std::nullopt : std::optional(read_text(*node));
}

bool ConfigReader::boolean(std::string_view key) {
  note(state_->schema, key, form_of(ValueType::boolean));
  return read_boolean(need(key));
}

bool ConfigReader::boolean_or(std::string_view key, bool fallback) {
  note(state_->schema, key, form_of(ValueType::boolean), fallback ? "true" : "false");
  const ConfigNode* node = ask(key);
  return node == nullptr ? fallback : read_boolean(*node);
}

int64_t ConfigReader::integer(std::string_view key, IntegerRange range) {
  note(state_->schema, key, integer_form(range));
  return read_integer(need(key), range);
}

int64_t ConfigReader::integer_or(std::string_view key, int64_t fallback, IntegerRange range) {
  // A fallback outside the range stands for something that no value can say.
  const bool writable = fallback >= range.minimum && fallback <= range.maximum;
  note(state_->schema, key, integer_form(range),
       writable ? std::optional(std::to_string(fallback)) : std::nullopt);
  return optional_integer(key, range).value_or(fallback);
}

std::optional<int64_t> ConfigReader::optional_integer(std::string_view key, IntegerRange range) {
  note(state_->schema, key, integer_form(range));
  const ConfigNode* node = ask(key);
  return node == nullptr ? std::nullopt : std::optional(read_integer(*node, range));
}

double ConfigReader::number(std::string_view key, NumberRange range) {
  note(state_->schema, key, number_form(range));
  return read_number(need(key), range);
}

double ConfigReader::number_or(std::string_view key, double fallback, NumberRange range) {
  note(state_->schema, key, number_form(range), detail::concat(fallback));
  const ConfigNode* node = ask(key);
  return node == nullptr ? fallback : read_number(*node, range);
}

std::string ConfigReader::choice(std::string_view key, const std::vector<std::string>& choices) {
  note(state_->schema, key, choice_form(choices));
  return read_choice(need(key), choices);
}

std::string ConfigReader::choice_or(std::string_view key, const std::string& fallback,
                                    const std::vector<std::string>& choices) {
  note(state_->schema, key, choice_form(choices), fallback);
  return optional_choice(key, choices).value_or(fallback);
}

std::optional<std::string> ConfigReader::optional_choice(std::string_view key,
                                                         const std::vector<std::string>& choices) {
  note(state_->schema, key, choice_form(choices));
  const ConfigNode* node = ask(key);
  return node == nullptr ? std::nullopt : std::optional(read_choice(*node, choices));
}

std::vector<int64_t> ConfigReader::integers(std::string_view key, IntegerRange range) {
  note(state_->schema, key, list_form(integer_form(range)));
  return read_list(need(key), [&](const ConfigNode& item) { return read_integer(item, range); });
}

std::vector<int64_t> ConfigReader::integers_or(std::string_view key,
                                               const std::vector<int64_t>& fallback,
                                               IntegerRange range) {
  // An empty fallback stands for something that no list can say.
  note(state_->schema, key, list_form(integer_form(range)),
       fallback.empty() ? std::nullopt : std::optional(flow_list(fallback)));
  return ask(key) == nullptr ? fallback : integers(key, range);
}

std::vector<double> ConfigReader::numbers(std::string_view key, NumberRange range) {
  note(state_->schema, key, list_form(number_form(range)));
  return read_list(need(key), [&](const ConfigNode& item) { return read_number(item, range); });
}

std::vector<std::string> ConfigReader::texts(std::string_view key) {
  note(state_->schema, key, list_form(form_of(ValueType::text)));
  return read_list(need(key), [](const ConfigNode& item) { return read_text(item); });
}

std::vector<std::string> ConfigReader::texts_or(std::string_view key,
                                                const std::vector<std::string>& fallback) {
  note(state_->schema, key, list_form(form_of(ValueType::text)),
       fallback.empty() ? std::nullopt : std::optional(flow_list(fallback)));
  return ask(key) == nullptr ? fallback : texts(key);
}

ComponentSpec ConfigReader::component(std::string_view key) {
  note(state_->schema, key, component_form(key));
  return read_component(need(key));
}

ComponentSpec ConfigReader::component_or(std::string_view key, const ComponentSpec& fallback) {
  note(state_->schema, key, component_form(key), to_string(fallback));
  return optional_component(key).value_or(fallback);
}

std::optional<ComponentSpec> ConfigReader::optional_component(std::string_view key) {
  note(state_->schema, key, component_form(key));
  const ConfigNode* node = ask(key);
  return node == nullptr ? std::nullopt : std::optional(read_component(*node));
}

std::vector<ComponentSpec> ConfigReader::components(std::string_view key) {
  note(state_->schema, key, list_form(component_form(key)));
  return read_list(need(key), [](const ConfigNode& item) { return read_component(item); });
}

std::string ConfigReader::data_path(std::string_view key) {
  KVLAB_INVARIANT(is_data_path_key(key), "[runtime.config_reader.data_path] '", key,
                  "' is not one of the keys that to_yaml keeps findable");
  note(state_->schema, key, form_of(ValueType::path));
  const ConfigNode& node = need(key);
  const std::string text = read_text(node);
  const SchemaRecording* recording = SchemaRecording::current();
  return recording != nullptr && recording->examples() ? text : resolve_path(node);
}

std::optional<std::string> ConfigReader::optional_data_path(std::string_view key) {
  note(state_->schema, key, form_of(ValueType::path));
  return ask(key) == nullptr ? std::nullopt : std::optional(data_path(key));
}

ConfigReader ConfigReader::child(std::string_view key) {
  ConfigReader reader(need(key));
  state_->children.push_back(reader.state_);
  if (SchemaRecording* recording = SchemaRecording::current()) {
    reader.state_->schema =
        recording->attach(&reader.state_->node, map_below(state_->schema, key, false));
  }
  return reader;
}

std::optional<ConfigReader> ConfigReader::optional_child(std::string_view key) {
  return ask(key) == nullptr ? std::nullopt : std::optional(child(key));
}

std::vector<ConfigReader> ConfigReader::children(std::string_view key) {
  const ConfigNode& node = need(key);
  if (!node.is_list()) {
    fail_at(node, detail::concat("wanted a list of maps, got ", node.description()));
  }
  if (node.items().empty()) fail_at(node, "the list is empty; write at least one map");
  std::vector<ConfigReader> readers;
  for (const ConfigNode& item : node.items()) {
    readers.emplace_back(item);
    state_->children.push_back(readers.back().state_);
    if (SchemaRecording* recording = SchemaRecording::current()) {
      const std::shared_ptr<State>& state = readers.back().state_;
      state->schema = recording->attach(&state->node, map_below(state_->schema, key, true));
    }
  }
  return readers;
}

void fail_unknown(const ConfigNode& map, std::string_view key,
                  const std::vector<std::string>& known) {
  const std::string where = map.key_where(key), path = config::join_path(map.path(), key);
  const std::string text = detail::concat(where, ": ", path, ": the key '", key,
                                          "' is not known here.", suggestion(key, known));
  throw ConfigError(text, {{where, path, text}});
}

void ConfigReader::finish() const {
  for (const auto& [key, value] : state_->node.entries()) {
    if (std::find(state_->asked.begin(), state_->asked.end(), key) != state_->asked.end()) continue;
    fail_unknown(state_->node, key, state_->asked);
  }
  for (const std::shared_ptr<State>& child : state_->children) {
    ConfigReader reader(child->node);
    reader.state_ = child;
    reader.finish();
  }
}

void ConfigReader::fail(std::string_view key, const std::string& message) const {
  const ConfigNode* node = state_->node.find(key);
  if (node != nullptr) fail_at(*node, message);
  fail_at(state_->node, detail::concat("'", key, "': ", message));
}

void check_form(const ConfigNode& node, const ValueForm& form) {
  switch (form.type) {
    case ValueType::text:
    case ValueType::path: read_text(node); break;
    case ValueType::boolean: read_boolean(node); break;
    case ValueType::integer: read_integer(node, form.integers); break;
    case ValueType::number: read_number(node, form.numbers); break;
    case ValueType::choice: read_choice(node, form.choices); break;
    case ValueType::component: read_component(node); break;
    case ValueType::map: ConfigReader{node}; break;
    case ValueType::list:
      if (form.item->type == ValueType::map) {
        if (!node.is_list()) {
          fail_at(node, detail::concat("wanted a list of maps, got ", node.description()));
        }
        if (node.items().empty()) fail_at(node, "the list is empty; write at least one map");
      } else if (!node.is_list() || node.items().empty()) {
        read_list(node, [](const ConfigNode& item) { return item.description(); });
      }
  }
}

}  // namespace kvlab

#include "kvlab/runtime/config_reader.h"

#include <algorithm>

#include "config_forms.h"
#include "config_tree.h"
#include "config_values.h"
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

namespace {

using namespace config;

template <typename Values>
std::string flow_list(const Values& values) {
  std::string text = "[";
  for (const auto& value : values) text += (text.size() == 1 ? "" : ", ") + detail::concat(value);
  return text + "]";
}

}  // namespace

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

}  // namespace kvlab

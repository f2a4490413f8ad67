#include "kvlab/runtime/json_schema.h"

#include <charconv>
#include <map>
#include <nlohmann/json.hpp>

#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kDraft = "https://json-schema.org/draft/2020-12/schema";

// What editors show beside a key: of shared parts by "part.key", of all others by the key alone.
const std::map<std::string, const char*>& key_texts() {
  static const std::map<std::string, const char*> kTexts = {
      {"schema", "The version of this file's keys"},
      {"experiment", "The kind of experiment, a folder of experiments/"},
      {"question", "What the run shall answer; printed on top of the report"},
      {"title", "Of the report; default: the question"},
      {"primary_metric", "The number that decides, named before the run"},
      {"plugins", "Plugin libraries that are loaded before anything else is read"},
      {"sweep", "Several values for keys: grid (every combination), zip, or list"},
      {"model", "Shape of the model and where its weights come from"},
      {"models", "Several models"},
      {"arms", "The variants that are compared"},
      {"control", "The arm all others are compared with"},
      {"runtime", "How the model is run"},
      {"measure", "How often and in which order arms are timed"},
      {"sampler", "How the next token is chosen"},
      {"isolation", "process: each arm runs in a process of its own"},
      {"limits", "What one arm may use in a process of its own"},
      {"prompt", "A text, a file with a text, token ids, or the seed of random tokens"},
      {"new_tokens", "Tokens to generate"},
      {"stop_tokens", "Token ids that end a text"},
      {"batch", "Rows that are decoded together"},
      {"model.name", "Name in reports"},
      {"model.source", "Where the weights come from"},
      {"model.tokenizer", "Folder of the tokenizer, where the model brings none"},
      {"model.shape", "Required for random weights; else compared with what the file says"},
      {"arm.name", "Letters, digits, '_', '.' and '-'; unique"},
      {"arm.cache", "The KV cache"},
      {"arm.attention", "In place of the run's own"},
      {"arm.cache_dtype", "In place of the run's own"},
      {"arm.position", "In place of the model's own"},
      {"arm.limits", "In place of the run's own"},
      {"runtime.threads", "Threads of kernels and products; default: all hardware threads"},
      {"runtime.dtype", "Element type of weights, activations and cache"},
      {"runtime.weights", "Overrides dtype for the weights"},
      {"runtime.cache_dtype", "Overrides dtype for the cache"},
      {"runtime.attention", "The attention implementation"},
      {"runtime.row_tokens",
       "Most tokens of a step that run on the row kernels; 0 = measured once, -1 = none"},
      {"runtime.chunk", "Tokens per prefill step; 0 = the whole prompt at once"},
      {"runtime.overflow", "Where a text outgrows the context"},
      {"runtime.memory_limit", "Bytes a cache may take"},
      {"measure.repeats", "Timed repetitions"},
      {"measure.warmup", "Repetitions before them that do not count"},
      {"measure.interleave", "Arms take turns inside each repetition"},
      {"measure.seed", "Of the order"},
      {"sampler.type", "greedy takes the likeliest token"},
      {"limits.seconds", "Wall time of the arm's work"},
      {"limits.memory", "2GB, 512MiB or bytes, beyond what the loaded model holds"},
      {"prompt.tokens", "Only the first N tokens; of random ones their number"},
      {"prompt.text", "The text itself"},
      {"prompt.file", "A file with the text"},
      {"prompt.ids", "Token ids"},
      {"prompt.random", "Seed of random tokens"},
  };
  return kTexts;
}

// A scalar as a user would write it, typed.
Json typed(const std::string& text) {
  if (text == "true" || text == "false") return text == "true";
  int64_t whole = 0;
  const char* end = text.data() + text.size();
  if (const auto [stop, error] = std::from_chars(text.data(), end, whole);
      error == std::errc{} && stop == end) {
    return whole;
  }
  double number = 0;
  if (const auto [stop, error] = std::from_chars(text.data(), end, number);
      error == std::errc{} && stop == end) {
    return number;
  }
  return text;
}

Json typed_value(const std::string& text) {
  if (!text.starts_with('[')) return typed(text);
  Json list = Json::array();
  const ConfigNode parsed = parse_config_text("list: " + text, "default");
  for (const ConfigNode& item : parsed.find("list")->items()) list.push_back(typed(item.text()));
  return list;
}

// Text that means itself in a regular expression.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view(R"(.^$|()[]{}*+?\/-)").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

Json reference(const std::string& name) { return {{"$ref", "#/$defs/" + name}}; }

Json integer_bounds(IntegerRange range) {
  const IntegerRange all;
  Json json = {{"type", "integer"}};
  if (range.minimum != all.minimum) json["minimum"] = range.minimum;
  if (range.maximum != all.maximum) json["maximum"] = range.maximum;
  return json;
}

Json number_bounds(NumberRange range) {
  const NumberRange all;
  Json json = {{"type", "number"}};
  if (range.minimum != all.minimum) {
    json[range.minimum_open ? "exclusiveMinimum" : "minimum"] = range.minimum;
  }
  if (range.maximum != all.maximum) {
    json[range.maximum_open ? "exclusiveMaximum" : "maximum"] = range.maximum;
  }
  return json;
}

Json option_schema(const OptionSpec& option, const std::string& kind) {
  Json json;
  switch (option.type) {
    case OptionType::boolean: json = {{"type", "boolean"}}; break;
    case OptionType::integer:
      json = {{"type", "integer"}};
      if (option.minimum) json["minimum"] = static_cast<int64_t>(*option.minimum);
      if (option.maximum) json["maximum"] = static_cast<int64_t>(*option.maximum);
      break;
    case OptionType::number:
      json = {{"type", "number"}};
      if (option.minimum) json["minimum"] = *option.minimum;
      if (option.maximum) json["maximum"] = *option.maximum;
      break;
    case OptionType::text:
      if (option.choices.empty()) {
        json = {{"type", "string"}};
      } else {
        json = {{"enum", option.choices}};
      }
      break;
    case OptionType::component: json = reference(kind); break;
  }
  if (!option.default_text.empty()) json["default"] = typed(option.default_text);
  json["description"] = option.doc + (option.unit.empty() ? "" : " [" + option.unit + "]");
  return json;
}

// The three ways to write a component: a map, its name with or without options, a file.
template <typename Entries>
Json component_schema(const Entries& entries, const std::string& kind) {
  Json forms = Json::array();
  Json names = Json::array();
  std::string compact;
  Json any_option = {{"use", {{"type", "string"}, {"description", "A file that holds it"}}},
                     {"type", Json::object()}};
  for (const auto& entry : entries) {
    const ComponentInfo& info = entry.info;
    Json properties = {{"type", {{"const", info.name}, {"description", info.summary}}}};
    Json required = {"type"};
    std::string options;
    for (const OptionSpec& option : info.options) {
      properties[option.name] = option_schema(option, kind);
      any_option[option.name] = Json::object();
      if (option.required) required.push_back(option.name);
      options += (options.empty() ? "" : "|") + escaped(option.name);
      if (option.type == OptionType::component) options += R"((\.[A-Za-z0-9_]+)*)";
    }
    forms.push_back({{"type", "object"},
                     {"properties", properties},
                     {"required", required},
                     {"additionalProperties", false}});
    names.push_back(info.name);
    if (options.empty()) continue;
    const std::string option = "(" + options + ")=[^,]+";
    compact += (compact.empty() ? "" : "|") + escaped(info.name) + ":" + option + "(," + option +
               ")*";
  }
  Json all = Json::array();
  all.push_back({{"enum", names}, {"description", "A " + kind + " with its defaults"}});
  if (!compact.empty()) {
    all.push_back({{"type", "string"},
                   {"pattern", "^(" + compact + ")$"},
                   {"description", "NAME:option=value,option=value"}});
  }
  for (Json& form : forms) all.push_back(std::move(form));
  all.push_back({{"type", "object"},
                 {"properties", any_option},
                 {"required", {"use"}},
                 {"additionalProperties", false}});
  return {{"anyOf", all}};
}

// What the sweep layer takes out before an experiment is read.
Json sweep_schema() {
  const Json values = {{"type", "object"}, {"minProperties", 1}};
  return {{"type", "object"},
          {"properties",
           {{"grid", values},
            {"zip", values},
            {"list", {{"type", "array"}, {"minItems", 1}, {"items", {{"type", "object"}}}}}}},
          {"additionalProperties", false},
          {"minProperties", 1}};
}

class SchemaWriter {
 public:
  explicit SchemaWriter(const ConfigSchema& schema, const Registry& registry)
      : schema_(schema), registry_(registry) {}

  Json map(const MapSchema& map, bool open) {
    Json properties = {
        {"use", {{"type", "string"}, {"description", "A file; the keys beside it override it"}}}};
    Json required = Json::array();
    for (const KeySchema& key : map.keys) {
      properties[key.name] = this->key(key, map.part);
      if (map.is_required(key)) required.push_back(key.name);
    }
    Json json = {{"type", "object"}, {"properties", properties}};
    if (!open) json["additionalProperties"] = false;
    // A file may bring what is required.
    if (!required.empty()) {
      json["anyOf"] = {Json{{"required", {"use"}}}, Json{{"required", required}}};
    }
    return json;
  }

  Json experiment(const std::string& kind, const MapSchema& schema, bool open) {
    Json json = map(schema, open);
    json["properties"]["experiment"] = {{"const", kind}};
    if (const auto text = key_texts().find("experiment"); text != key_texts().end()) {
      json["properties"]["experiment"]["description"] = text->second;
    }
    json["properties"]["schema"] = {{"const", "kvlab/1"}};
    json["properties"]["plugins"] = {{"type", "array"},
                                     {"minItems", 1},
                                     {"items", {{"type", "string"}}},
                                     {"description", key_texts().at("plugins")}};
    json["properties"]["sweep"] = sweep_schema();
    json["properties"]["sweep"]["description"] = key_texts().at("sweep");
    return json;
  }

  void add_definitions(Json& json) {
    Json definitions = json.contains("$defs") ? json["$defs"] : Json::object();
    for (const auto& [name, part] : schema_.parts) definitions[name] = map(part, false);
    definitions["cache"] = component_schema(registry_.caches(), "cache");
    definitions["attention"] = component_schema(registry_.attentions(), "attention");
    definitions["position"] = component_schema(registry_.positions(), "position");
    json["$defs"] = definitions;
  }

 private:
  Json key(const KeySchema& key, const std::string& part) {
    Json forms = Json::array();
    for (const ValueForm& form : key.forms) forms.push_back(this->form(form, key.raw));
    Json json = Json::object();
    if (forms.size() == 1) json = forms.front();
    if (forms.size() > 1) json["anyOf"] = forms;
    if (key.fallback) json["default"] = typed_value(*key.fallback);
    auto text = key_texts().find(part + "." + key.name);
    if (text == key_texts().end()) text = key_texts().find(key.name);
    if (text != key_texts().end()) json["description"] = text->second;
    return json;
  }

  Json form(const ValueForm& form, bool raw) {
    switch (form.type) {
      case ValueType::text:
      case ValueType::path: return {{"type", "string"}, {"minLength", 1}};
      case ValueType::boolean: return {{"type", "boolean"}};
      case ValueType::integer: return integer_bounds(form.integers);
      case ValueType::number: return number_bounds(form.numbers);
      case ValueType::choice: return {{"enum", form.choices}};
      case ValueType::component:
        return form.component.empty() ? Json::object() : reference(form.component);
      case ValueType::map:
        return form.map->part.empty() ? map(*form.map, false) : reference(form.map->part);
      case ValueType::list: break;
    }
    Json json = {{"type", "array"}, {"items", this->form(*form.item, false)}};
    // Where the reader looks at the raw value as well, an empty list may have a meaning.
    if (!raw) json["minItems"] = 1;
    const ValueType item = form.item->type;
    if (item != ValueType::map && item != ValueType::component) json["uniqueItems"] = true;
    return json;
  }

  const ConfigSchema& schema_;
  const Registry& registry_;
};

Json head(const std::string& title) { return {{"$schema", kDraft}, {"title", title}}; }

std::string text_of(const Json& json) { return json.dump(2) + "\n"; }

}  // namespace

std::string experiment_schema(const Registry& registry, std::string_view kind) {
  if (!kind.empty()) (void)registry.experiment(kind);
  const ConfigSchema schema = record_config_schema(registry, kind);
  SchemaWriter writer(schema, registry);
  const auto of_kind = [&](const std::string& name) {
    const auto known = schema.kinds.find(name);
    return known == schema.kinds.end() ? writer.experiment(name, schema.head, true)
                                       : writer.experiment(name, known->second, false);
  };
  Json json = head("kvlab experiment");
  if (!kind.empty()) {
    json.update(of_kind(std::string(kind)));
    writer.add_definitions(json);
    return text_of(json);
  }
  Json names = Json::array(), cases = Json::array(), definitions = Json::object();
  for (const ExperimentEntry& entry : registry.experiments()) {
    const std::string& name = entry.info.name;
    names.push_back(name);
    definitions["experiment_" + name] = of_kind(name);
    cases.push_back({{"if", {{"properties", {{"experiment", {{"const", name}}}}},
                             {"required", {"experiment"}}}},
                     {"then", reference("experiment_" + name)}});
  }
  json["type"] = "object";
  json["properties"] = {
      {"experiment", {{"enum", names}, {"description", key_texts().at("experiment")}}}};
  json["anyOf"] = {Json{{"required", {"use"}}},
                   Json{{"required", {"schema", "experiment", "question"}}}};
  json["allOf"] = cases;
  json["$defs"] = definitions;
  writer.add_definitions(json);
  return text_of(json);
}

std::string model_schema(const Registry& registry) {
  const ConfigSchema schema = record_config_schema(registry, "none");
  SchemaWriter writer(schema, registry);
  Json json = head("kvlab model");
  json.update(reference("model"));
  writer.add_definitions(json);
  for (auto i = json["$defs"].begin(); i != json["$defs"].end();) {
    const bool used = i.key() == "model" || i.key() == "position";
    i = used ? std::next(i) : json["$defs"].erase(i);
  }
  return text_of(json);
}

std::string cache_schema(const Registry& registry) {
  Json json = head("kvlab cache");
  json.update(reference("cache"));
  json["$defs"] = {{"cache", component_schema(registry.caches(), "cache")}};
  return text_of(json);
}

}  // namespace kvlab

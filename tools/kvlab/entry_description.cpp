#include "entry_description.h"

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

// Traits are functions of the shape; this one stands for a small model with grouped heads.
CacheShape sample_shape() {
  CacheShape shape;
  shape.layers = 12;
  shape.query_heads = 12;
  shape.kv_heads = 4;
  shape.rows = 1;
  shape.key_dim = shape.value_dim = 64;
  shape.max_length = 1024;
  shape.max_step_tokens = 64;
  return shape;
}

PositionShape sample_position_shape() { return {768, 12, 64, 1024, {}}; }

const char* name_of(OptionType type) {
  switch (type) {
    case OptionType::boolean: return "boolean";
    case OptionType::integer: return "integer";
    case OptionType::number: return "number";
    case OptionType::text: return "text";
    case OptionType::component: return "component";
  }
  return "?";
}

const char* name_of(FeedbackRequest::Kind kind) {
  switch (kind) {
    case FeedbackRequest::Kind::none: return "none";
    case FeedbackRequest::Kind::column_sums: return "column_sums";
    case FeedbackRequest::Kind::last_rows: return "last_rows";
  }
  return "?";
}

Json bound(const std::optional<double>& value, OptionType type) {
  if (!value) return nullptr;
  if (type == OptionType::integer) return static_cast<int64_t>(*value);
  return *value;
}

Json json_of(const OptionSpec& option) {
  return {{"name", option.name},
          {"type", name_of(option.type)},
          {"default", option.required ? Json(nullptr) : Json(option.default_text)},
          {"range",
           {{"minimum", bound(option.minimum, option.type)},
            {"maximum", bound(option.maximum, option.type)}}},
          {"choices", option.choices},
          {"unit", option.unit},
          {"doc", option.doc},
          {"required", option.required}};
}

Json json_of(const CacheTraits& traits) {
  return {{"exact", traits.exact},
          {"truncation", truncation_name(traits.truncation)},
          {"forks", traits.forks},
          {"shares_prefixes", traits.shares_prefixes},
          {"bounded", traits.bounded},
          {"window", traits.window},
          {"sinks", traits.sinks},
          {"keys_before_position", traits.keys_before_position},
          {"keeps_nothing", traits.keeps_nothing},
          {"feedback", name_of(traits.feedback.kind)}};
}

Json json_of(const AttentionTraits& traits) {
  Json feedback = Json::array();
  for (const auto kind : traits.feedback) feedback.push_back(name_of(kind));
  return {{"reads_segments", traits.reads_segments},
          {"supports_bias", traits.supports_bias},
          {"feedback", feedback}};
}

Json json_of(const PositionTraits& traits) {
  const bool unlimited = traits.max_position == kUnlimitedPositions;
  return {{"adds_to_embedding", traits.adds_to_embedding},
          {"rotates", traits.rotates},
          {"biases_scores", traits.biases_scores},
          {"can_rebase", traits.can_rebase},
          {"needs_table", traits.needs_table},
          {"max_position", unlimited ? Json("unlimited") : Json(traits.max_position)}};
}

Json common_part(const char* kind, const ComponentInfo& info, const std::string& origin) {
  Json options = Json::array();
  for (const OptionSpec& option : info.options) options.push_back(json_of(option));
  return {{"kind", kind},
          {"name", info.name},
          {"summary", info.summary},
          {"citation", info.citation},
          {"origin", origin},
          {"options", options},
          {"examples", info.examples}};
}

// Traits with default options; the reason where they have none (a required option, an odd shape).
template <typename Ask>
void add_traits(Json& entry, Ask&& ask) {
  entry["traits"] = nullptr;
  try {
    entry["traits"] = json_of(ask());
  } catch (const UserError& error) {
    entry["no_traits_because"] = error.what();
  }
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : "; ") + part;
  return text;
}

std::string truncation_promise(const std::string& truncation) {
  if (truncation == "exact") return "truncates";
  if (truncation == "resident") return "truncates while nothing needed is evicted";
  if (truncation == "approximate") return "truncates approximately";
  return "does not truncate";
}

std::string cache_promises(const Json& traits) {
  std::vector<std::string> parts = {traits.at("exact").get<bool>() ? "exact" : "approximate",
                                    truncation_promise(traits.at("truncation")),
                                    traits.at("forks").get<bool>() ? "forks" : "does not fork"};
  const auto add_where = [&](const char* trait, const char* text) {
    if (traits.at(trait).get<bool>()) parts.emplace_back(text);
  };
  add_where("shares_prefixes", "shares prefixes");
  add_where("bounded", "bounded memory");
  add_where("keys_before_position", "keeps keys before position");
  add_where("keeps_nothing", "keeps nothing");
  if (traits.at("window") != 0) parts.push_back("sees " + traits.at("window").dump() + " tokens");
  if (traits.at("sinks") != 0) parts.back() += " and the first " + traits.at("sinks").dump();
  if (traits.at("feedback") != "none") {
    parts.push_back("needs " + traits.at("feedback").get<std::string>());
  }
  return joined(parts);
}

std::string attention_promises(const Json& traits) {
  std::vector<std::string> parts = {
      traits.at("reads_segments").get<bool>() ? "reads segments" : "reads dense tensors",
      traits.at("supports_bias").get<bool>() ? "takes a bias" : "takes no bias"};
  for (const Json& kind : traits.at("feedback")) {
    parts.push_back("gives " + kind.get<std::string>());
  }
  return joined(parts);
}

std::string position_promises(const Json& traits) {
  std::vector<std::string> parts;
  const auto add_where = [&](const char* trait, const char* text) {
    if (traits.at(trait).get<bool>()) parts.emplace_back(text);
  };
  add_where("adds_to_embedding", "acts on the embedding");
  add_where("rotates", "rotates queries and keys");
  add_where("biases_scores", "biases scores");
  add_where("needs_table", "needs a table of weights");
  parts.emplace_back(traits.at("can_rebase").get<bool>() ? "keys can be moved later"
                                                         : "keys cannot be moved later");
  if (traits.at("max_position") != "unlimited") {
    parts.emplace_back("ends with the model's context");
  }
  return joined(parts);
}

}  // namespace

Json describe(const Registry& registry, const CacheEntry& entry) {
  Json json = common_part("cache", entry.info, entry.origin);
  json["bytes_formula"] = entry.bytes_formula;
  add_traits(json, [&] { return registry.cache_traits({entry.info.name, {}, ""}, sample_shape()); });
  return json;
}

Json describe(const Registry& registry, const AttentionEntry& entry) {
  Json json = common_part("attention", entry.info, entry.origin);
  add_traits(json, [&] { return registry.attention_traits({entry.info.name, {}, ""}); });
  return json;
}

Json describe(const Registry& registry, const PositionEntry& entry) {
  Json json = common_part("position", entry.info, entry.origin);
  add_traits(json, [&] {
    return registry.position_traits({entry.info.name, {}, ""}, sample_position_shape());
  });
  return json;
}

Json describe(const Registry&, const ExperimentEntry& entry) {
  return common_part("experiment", entry.info, entry.origin);
}

std::string promises(const Json& description) {
  const Json& traits = description.at("traits");
  if (traits.is_null()) return "depends on its options";
  if (description.at("kind") == "cache") return cache_promises(traits);
  if (description.at("kind") == "attention") return attention_promises(traits);
  return position_promises(traits);
}

}  // namespace kvlab

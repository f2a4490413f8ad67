#include "command_describe.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>

#include "exit_code.h"
#include "json_output.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

// Traits are functions of the shape; this one stands for a small model with grouped heads.
CacheShape sample_shape() {
  CacheShape shape;
  shape.layers = 12;
  shape.query_heads = 12;
  shape.kv_heads = 4;
  shape.rows = 1;
  shape.key_dim = shape.value_dim = 64;
  shape.max_length = shape.max_step_tokens = 1024;
  return shape;
}

PositionShape sample_position_shape() { return {768, 12, 64, 1024, {}}; }

constexpr const char* kSampleText =
    "12 layers, 12 query heads, 4 KV heads of 64, 1 row of up to 1024 tokens, f32";

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

const char* name_of(Truncation truncation) {
  switch (truncation) {
    case Truncation::refused: return "refused";
    case Truncation::resident: return "resident";
    case Truncation::approximate: return "approximate";
    case Truncation::exact: return "exact";
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
          {"truncation", name_of(traits.truncation)},
          {"forks", traits.forks},
          {"shares_prefixes", traits.shares_prefixes},
          {"bounded", traits.bounded},
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
          {"options", options}};
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

template <typename Entry, typename Add>
void add_entries(Json& found, const std::vector<Entry>& entries, const std::string& name,
                 const char* kind, Add&& add) {
  for (const Entry& entry : entries) {
    if (entry.info.name != name) continue;
    Json json = common_part(kind, entry.info, entry.origin);
    add(json, entry);
    found.push_back(std::move(json));
  }
}

// Null for a kind that is not of the source tree.
Json experiment_readme(const std::string& kind) {
  const std::string file = "experiments/" + kind + "/README.md";
  std::error_code ignored;
  return fs::exists(fs::path(KVLAB_SOURCE_DIR) / file, ignored) ? Json(file) : Json(nullptr);
}

// Whether the file's `experiment:` is `kind`. By its lines, so that a config which does not parse
// hides nothing.
bool is_config_of(const fs::path& path, const std::string& kind) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string key, value;
    if (words >> key >> value && line.front() == 'e' && key == "experiment:") return value == kind;
  }
  return false;
}

Json experiment_configs(const std::string& kind) {
  const fs::path source = KVLAB_SOURCE_DIR;
  std::vector<std::string> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(source / "configs" / "experiments", ignored)) {
    if (entry.path().extension() != ".yaml" || !is_config_of(entry.path(), kind)) continue;
    files.push_back(entry.path().lexically_relative(source).string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Json find_entries(const Registry& registry, const std::string& name) {
  const ComponentSpec spec{name, {}, ""};
  Json found = Json::array();
  add_entries(found, registry.caches(), name, "cache", [&](Json& json, const CacheEntry& entry) {
    json["bytes_formula"] = entry.bytes_formula;
    add_traits(json, [&] { return registry.cache_traits(spec, sample_shape()); });
  });
  add_entries(found, registry.attentions(), name, "attention",
              [&](Json& json, const AttentionEntry&) {
                add_traits(json, [&] { return registry.attention_traits(spec); });
              });
  add_entries(found, registry.positions(), name, "position", [&](Json& json, const PositionEntry&) {
    add_traits(json, [&] { return registry.position_traits(spec, sample_position_shape()); });
  });
  add_entries(found, registry.experiments(), name, "experiment",
              [](Json& json, const ExperimentEntry& entry) {
                json["readme"] = experiment_readme(entry.info.name);
                json["configs"] = experiment_configs(entry.info.name);
              });
  return found;
}

std::vector<std::string> known_names(const Registry& registry) {
  std::vector<std::string> names;
  const auto add = [&](const auto& entries) {
    for (const auto& entry : entries) names.push_back(entry.info.name);
  };
  add(registry.caches());
  add(registry.attentions());
  add(registry.positions());
  add(registry.experiments());
  return names;
}

std::string range_text(const Json& option) {
  const Json& range = option.at("range");
  if (!option.at("choices").empty()) {
    std::string text;
    for (const Json& choice : option.at("choices")) {
      text += (text.empty() ? "one of " : ", ") + choice.get<std::string>();
    }
    return text;
  }
  std::ostringstream text;
  if (!range.at("minimum").is_null()) text << "from " << range.at("minimum");
  if (!range.at("maximum").is_null()) {
    text << (text.tellp() > 0 ? " " : "") << "to " << range.at("maximum");
  }
  return text.str();
}

std::string plain(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void print_options(const Json& options) {
  if (options.empty()) return;
  std::cout << "  options\n";
  for (const Json& option : options) {
    std::cout << "    " << plain(option.at("name")) << "  " << plain(option.at("type"));
    const std::string range = range_text(option);
    if (!range.empty()) std::cout << ", " << range;
    if (!option.at("unit").empty() && option.at("unit") != "") {
      std::cout << ", in " << plain(option.at("unit"));
    }
    std::cout << (option.at("required").get<bool>() ? ", required"
                                                    : ", default " + plain(option.at("default")))
              << "\n      " << plain(option.at("doc")) << "\n";
  }
}

// Where an experiment kind is explained and used, below the source tree.
void print_files(const Json& entry) {
  if (!entry.at("readme").is_null()) {
    std::cout << "  README: " << plain(entry.at("readme")) << "\n";
  }
  if (entry.at("configs").empty()) return;
  std::cout << "  configs\n";
  for (const Json& file : entry.at("configs")) std::cout << "    " << plain(file) << "\n";
}

void print_entry(const Json& entry) {
  std::cout << plain(entry.at("kind")) << " " << plain(entry.at("name")) << " ("
            << plain(entry.at("origin")) << ")\n  " << plain(entry.at("summary")) << "\n";
  if (entry.at("citation") != "") std::cout << "  source: " << plain(entry.at("citation")) << "\n";
  print_options(entry.at("options"));
  if (entry.contains("bytes_formula")) {
    std::cout << "  bytes: " << plain(entry.at("bytes_formula")) << "\n";
  }
  if (entry.contains("configs")) print_files(entry);
  if (!entry.contains("traits")) return;
  if (entry.at("traits").is_null()) {
    std::cout << "  traits: not with default options: " << plain(entry.at("no_traits_because"))
              << "\n";
    return;
  }
  std::cout << "  traits with default options (" << kSampleText << ")\n";
  for (const auto& [trait, value] : entry.at("traits").items()) {
    std::cout << "    " << trait << ": " << plain(value) << "\n";
  }
}

int run_describe(const std::string& name, bool json) {
  const Registry registry = builtin_registry();
  const Json found = find_entries(registry, name);
  if (found.empty()) {
    throw MissingError(detail::concat("[command_line.describe] nothing is named '", name, "'.",
                                      suggestion(name, known_names(registry))));
  }
  if (json) {
    print_json({{"name", name}, {"sample_shape", kSampleText}, {"entries", found}});
    return kExitOk;
  }
  for (const Json& entry : found) print_entry(entry);
  return kExitOk;
}

}  // namespace

void add_describe_command(CLI::App& app, Invocation& invocation) {
  CLI::App* command = app.add_subcommand(
      "describe", "Options, traits, bytes and source of a plugin or experiment kind.");
  const auto name = std::make_shared<std::string>();
  const auto json = std::make_shared<bool>(false);
  command->add_option("name", *name, "As kvlab list shows it; all kinds of that name are shown")
      ->required();
  command->add_flag("--json", *json, "Print one line of JSON");
  command->callback([name, json, &invocation] {
    invocation.run = [name, json] { return run_describe(*name, *json); };
  });
}

}  // namespace kvlab

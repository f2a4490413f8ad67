#include "command_describe.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>

#include "entry_description.h"
#include "exit_code.h"
#include "json_output.h"
#include "kvlab/core/error.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;

template <typename Entry>
void add_entries(Json& found, const Registry& registry, const std::vector<Entry>& entries,
                 const std::string& name) {
  for (const Entry& entry : entries) {
    if (entry.info.name == name) found.push_back(describe(registry, entry));
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
  Json found = Json::array();
  add_entries(found, registry, registry.caches(), name);
  add_entries(found, registry, registry.attentions(), name);
  add_entries(found, registry, registry.positions(), name);
  add_entries(found, registry, registry.experiments(), name);
  for (Json& entry : found) {
    if (entry.at("kind") != "experiment") continue;
    entry["readme"] = experiment_readme(name);
    entry["configs"] = experiment_configs(name);
  }
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
  // Those of experiments are whole files for the schema; their configs are listed below.
  const Json examples = entry.at("kind") == "experiment" ? Json::array() : entry.at("examples");
  for (const Json& example : examples) {
    std::cout << "  example: " << plain(entry.at("name")) << ":" << plain(example) << "\n";
  }
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

int run_describe(const std::string& name, const std::vector<std::string>& plugins, bool json) {
  const Registry registry = open_registry(plugins);
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
  const auto plugins = std::make_shared<std::vector<std::string>>();
  const auto json = std::make_shared<bool>(false);
  command->add_option("name", *name, "As kvlab list shows it; all kinds of that name are shown")
      ->required();
  add_plugin_option(*command, *plugins);
  command->add_flag("--json", *json, "Print one line of JSON");
  command->callback([name, plugins, json, &invocation] {
    invocation.run = [name, plugins, json] { return run_describe(*name, *plugins, *json); };
  });
}

}  // namespace kvlab

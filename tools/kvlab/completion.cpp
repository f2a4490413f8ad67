#include "completion.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "experiment_argument.h"
#include "kvlab/runtime/config_node.h"
#include "named_config.h"

namespace kvlab {

namespace {

using Words = std::vector<std::string>;

// A library that cannot be loaded must not keep the rest from being completed.
Registry completion_registry() {
  try {
    return open_registry({});
  } catch (const Error&) {
    return builtin_registry();
  }
}

template <typename Entries>
void add_names(const Entries& entries, Words& words) {
  for (const auto& entry : entries) words.push_back(entry.info.name);
}

// `name`, `name:option=`, and after a comma the options that are not there yet.
Words component_words(const std::vector<ComponentInfo>& infos, const std::string& word) {
  const size_t colon = word.find(':');
  Words words;
  if (colon == std::string::npos) {
    for (const ComponentInfo& info : infos) {
      words.push_back(info.name);
      if (!info.options.empty()) words.push_back(info.name + ":");
    }
    return words;
  }
  const auto info = std::find_if(infos.begin(), infos.end(), [&](const ComponentInfo& one) {
    return one.name == word.substr(0, colon);
  });
  if (info == infos.end()) return words;
  const size_t start = word.find_last_of(":,") + 1;
  const std::string done = word.substr(0, start);
  for (const OptionSpec& option : info->options) {
    const bool there = done.find(":" + option.name + "=") != std::string::npos ||
                       done.find("," + option.name + "=") != std::string::npos;
    if (there) continue;
    const std::string head = done + option.name + "=";
    if (!word.starts_with(head)) {
      words.push_back(head);
      continue;
    }
    for (const std::string& choice : option.choices) words.push_back(head + choice);
    if (option.type == OptionType::boolean) {
      words.push_back(head + "true");
      words.push_back(head + "false");
    }
    if (option.type == OptionType::component) {
      for (const ComponentInfo& inner : infos) words.push_back(head + inner.name);
    }
  }
  return words;
}

template <typename Entries>
Words component_words(const Entries& entries, const std::string& word) {
  std::vector<ComponentInfo> infos;
  for (const auto& entry : entries) infos.push_back(entry.info);
  return component_words(infos, word);
}

Words kinds(const Registry& registry) {
  Words words;
  add_names(registry.experiments(), words);
  return words;
}

Words all_names(const Registry& registry) {
  Words words = kinds(registry);
  add_names(registry.caches(), words);
  add_names(registry.attentions(), words);
  add_names(registry.positions(), words);
  return words;
}

// What an option's value may be, by the option's name; `known` is false where any file may be meant.
Words option_values(const std::string& option, const std::string& word, bool& known) {
  known = true;
  const Registry registry = completion_registry();
  if (option == "--cache") return component_words(registry.caches(), word);
  if (option == "--attention") return component_words(registry.attentions(), word);
  if (option == "--model") return named_configs(ConfigKind::model);
  if (option == "--kind") return kinds(registry);
  if (option == "--only") return all_names(registry);
  if (option == "--part") return {"experiment", "model", "cache"};
  if (option == "--dtype" || option == "--cache-dtype") return {"f32", "bf16"};
  if (option == "--weights") return {"f32", "bf16", "int8"};
  if (option == "--overflow") return {"stop", "error"};
  known = false;
  return {};
}

// Shells put a chosen word into the line as it is, and Enter runs what the line says. Names come out
// of configs, which anyone may have written.
bool is_plain(const std::string& word) {
  return std::all_of(word.begin(), word.end(), [](const char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_.-").find(c) != std::string_view::npos;
  });
}

// Keys of a config as overrides name them. Items of lists go by their name where they have one.
void add_keys(const ConfigNode& node, const std::string& path, Words& words) {
  if (node.is_map()) {
    for (const auto& [key, value] : node.entries()) {
      if (!is_plain(key)) continue;
      const std::string inner = path.empty() ? key : path + "." + key;
      words.push_back(inner + "=");
      if (!value.is_scalar()) add_keys(value, inner, words);
    }
  } else if (node.is_list()) {
    for (size_t i = 0; i < node.items().size(); ++i) {
      const ConfigNode& item = node.items()[i];
      if (!item.is_map()) continue;
      const ConfigNode* name = item.find("name");
      const std::string step = name != nullptr && name->is_scalar() ? name->text()
                                                                    : std::to_string(i);
      if (is_plain(step)) add_keys(item, path + "." + step, words);
    }
  }
}

// Keys up to the next dot, so that a long config is gone through step by step.
Words next_steps(const Words& keys, const std::string& word) {
  std::set<std::string> steps;
  for (const std::string& key : keys) {
    if (!key.starts_with(word)) continue;
    const size_t end = key.find_first_of(".=", word.size());
    steps.insert(end == std::string::npos ? key : key.substr(0, end + 1));
  }
  return {steps.begin(), steps.end()};
}

Words override_words(const std::string& config, const std::string& word) {
  Words keys;
  try {
    const ConfigNode root = load_config_file(find_experiment(config));
    if (const size_t equals = word.find('='); equals != std::string::npos) {
      const std::string head = word.substr(0, equals + 1);
      const std::string key = word.substr(0, equals);
      const std::string last = key.substr(key.rfind('.') + 1);
      const Registry registry = completion_registry();
      Words values;
      if (last == "cache") values = component_words(registry.caches(), word.substr(equals + 1));
      if (last == "attention") {
        values = component_words(registry.attentions(), word.substr(equals + 1));
      }
      for (const std::string& value : values) keys.push_back(head + value);
      return keys;
    }
    add_keys(root, "", keys);
  } catch (const Error&) {
    return {};  // a config that cannot be read has no keys to offer
  }
  return next_steps(keys, word);
}

Words positional_words(const std::string& command, const Words& given, const std::string& word) {
  const Registry registry = completion_registry();
  if (command == "list") return {"caches", "attention", "positions", "experiments"};
  if (command == "describe") return all_names(registry);
  if (command == "completion") return {"bash", "zsh"};
  if (command != "run" && command != "validate" && command != "sweep") return {};
  if (given.empty()) return named_configs(ConfigKind::experiment);
  Words words = override_words(given.front(), word);
  if (command == "validate") {
    const Words more = named_configs(ConfigKind::experiment);
    words.insert(words.end(), more.begin(), more.end());
  }
  return words;
}

// Plain names, and between them what separates a component's options and a key from its value.
bool is_safe(const std::string& candidate) {
  std::string names = candidate;
  std::erase_if(names, [](const char c) { return c == ':' || c == '=' || c == ','; });
  return is_plain(names);
}

bool takes_value(const CLI::Option& option) { return option.get_type_size_max() > 0; }

const CLI::Option* find_option(const CLI::App& command, const std::string& name) {
  for (const CLI::Option* option : command.get_options()) {
    if (!option->get_positional() && option->check_name(name)) return option;
  }
  return nullptr;
}

Words option_names(const CLI::App& command) {
  Words words;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  }
  return words;
}

Words command_names(const CLI::App& app) {
  Words words;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (!command->get_group().empty()) words.push_back(command->get_name());
  }
  return words;
}

Words unfiltered(const CLI::App& app, const Words& words) {
  const CLI::App* command = &app;
  Words given;
  const CLI::Option* open = nullptr;  // an option whose value comes next
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (open != nullptr) {
      open = nullptr;
    } else if (word.starts_with('-')) {
      const CLI::Option* option = find_option(*command, word.substr(0, word.find('=')));
      if (option != nullptr && takes_value(*option) && word.find('=') == std::string::npos) {
        open = option;
      }
    } else {
      const auto below = command->get_subcommands([&](const CLI::App* one) {
        return given.empty() && one->get_name() == word;
      });
      if (below.empty()) {
        given.push_back(word);
      } else {
        command = below.front();
      }
    }
  }
  const std::string& word = words.back();
  bool known = false;
  if (open != nullptr) return option_values("--" + open->get_lnames().front(), word, known);
  if (word.starts_with("--") && word.find('=') != std::string::npos) {
    const std::string head = word.substr(0, word.find('=') + 1);
    Words values;
    for (const std::string& value :
         option_values(head.substr(0, head.size() - 1), word.substr(head.size()), known)) {
      values.push_back(head + value);
    }
    return values;
  }
  if (word.starts_with('-')) return option_names(*command);
  if (command->get_name() == "help") return given.empty() ? command_names(app) : Words{};
  if (!command->get_subcommands(nullptr).empty()) return command_names(*command);
  return positional_words(command->get_name(), given, word);
}

}  // namespace

std::vector<std::string> complete_command_line(const CLI::App& app, const Words& words) {
  if (words.empty()) return command_names(app);
  Words candidates = unfiltered(app, words);
  std::erase_if(candidates, [&](const std::string& one) {
    return !one.starts_with(words.back()) || !is_safe(one);
  });
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  return candidates;
}

}  // namespace kvlab

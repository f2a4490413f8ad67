#include "kvlab/runtime/config_check.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <tuple>

#include "config_tree.h"
#include "experiment_tree.h"
#include "kvlab/runtime/config_edit.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {

namespace {

constexpr int kMostRounds = 32;

// "file:line:column" taken apart; overrides and unknown places come after all lines.
std::tuple<std::string, int, int> order_of(const std::string& where) {
  const size_t last = where.rfind(':');
  const size_t middle = last == std::string::npos || last == 0 ? last : where.rfind(':', last - 1);
  int line = 0, column = 0;
  if (middle == std::string::npos) return {"\x7f" + where, 0, 0};
  std::from_chars(where.data() + middle + 1, where.data() + last, line);
  std::from_chars(where.data() + last + 1, where.data() + where.size(), column);
  if (line == 0) return {"\x7f" + where, 0, 0};
  return {where.substr(0, middle), line, column};
}

// The place that a message begins with, where it does not bring one of its own.
std::string leading_place(const std::string& message) {
  const size_t end = message.find(": ");
  if (end == std::string::npos) return "";
  const std::string place = message.substr(0, end);
  return std::get<1>(order_of(place)) > 0 || place.starts_with("override '") ? place : "";
}

bool inside(const std::string& path, const std::string& outer) {
  return path == outer || outer.empty() || path.starts_with(outer + ".");
}

std::vector<ConfigProblem> problems_of(const std::exception& error) {
  if (const auto* config = dynamic_cast<const ConfigError*>(&error)) return config->problems();
  const bool missing = dynamic_cast<const MissingError*>(&error) != nullptr;
  return {{leading_place(error.what()), "", error.what(), missing}};
}

const ComponentInfo* find_component(const Registry& registry, const std::string& kind,
                                    const ComponentSpec& spec) {
  if (kind == "cache") return &registry.cache(spec.type, spec.where).info;
  if (kind == "attention") return &registry.attention(spec.type, spec.where).info;
  if (kind == "position") return &registry.position(spec.type, spec.where).info;
  return nullptr;
}

const ConfigNode* node_at(const ConfigNode& node, const std::string& path) {
  if (node.path() == path) return &node;
  if (node.is_map()) {
    for (const auto& [key, value] : node.entries()) {
      if (!inside(path, value.path())) continue;
      if (const ConfigNode* found = node_at(value, path)) return found;
    }
  } else if (node.is_list()) {
    for (const ConfigNode& item : node.items()) {
      if (!inside(path, item.path())) continue;
      if (const ConfigNode* found = node_at(item, path)) return found;
    }
  }
  return nullptr;
}

/// Compares a config with its schema and notes every difference, and how to take it out.
class SchemaWalk {
 public:
  SchemaWalk(const ConfigSchema& schema, const Registry& registry)
      : schema_(schema), registry_(registry) {}

  std::vector<ConfigProblem> problems;
  std::vector<ConfigEdit> edits;
  bool whole = true;  // whether the edits leave a config that can be read on

  void map(const ConfigNode& node, const MapSchema& given) {
    const MapSchema& schema = schema_.resolve(given);
    std::vector<std::string> slips;
    for (const KeySchema& key : schema.keys) {
      if (node.find(key.name) != nullptr || !schema.is_required(key)) continue;
      whole = false;
      missing_key(node, schema, key, slips);
    }
    for (const auto& [name, value] : node.entries()) {
      const KeySchema* key = schema.find(name);
      if (key != nullptr) {
        this->value(value, *key, schema.is_required(*key));
      } else if (std::find(slips.begin(), slips.end(), name) == slips.end()) {
        note([&, &known = name] { fail_unknown(node, known, schema.names()); });
        edits.push_back({value.path(), {}});
      }
    }
  }

 private:
  template <typename Work>
  bool note(const Work& work) {
    try {
      work();
      return true;
    } catch (const UserError& error) {
      for (ConfigProblem& problem : problems_of(error)) problems.push_back(std::move(problem));
      return false;
    }
  }

  void missing_key(const ConfigNode& node, const MapSchema& schema, const KeySchema& key,
                   std::vector<std::string>& slips) {
    std::vector<std::string> unknown;
    for (const auto& [name, value] : node.entries()) {
      if (schema.find(name) == nullptr) unknown.push_back(name);
    }
    const std::vector<std::string> near = near_names(key.name, unknown);
    if (!near.empty()) slips.push_back(near.front());
    note([&] {
      fail_at(node, detail::concat("the key '", key.name, "' is required and missing",
                                   near.empty() ? "" : "; is '" + near.front() + "' a slip?"));
    });
  }

  static bool fits(const ConfigNode& node, const ValueForm& form) {
    if (form.type == ValueType::map) return node.is_map();
    if (form.type == ValueType::list) return node.is_list();
    return node.is_scalar() || (form.type == ValueType::component && node.is_map());
  }

  void value(const ConfigNode& node, const KeySchema& key, bool required) {
    if (key.forms.empty()) return;
    // Several forms of one shape: one that takes the value is enough.
    const ValueForm* form = &key.forms.front();
    bool fitting = false;
    for (const ValueForm& candidate : key.forms) {
      if (!fits(node, candidate)) continue;
      if (!fitting) form = &candidate;
      fitting = true;
      try {
        check_form(node, candidate);
        form = &candidate;
        break;
      } catch (const UserError&) {
        // Reported below, unless another form takes it.
      }
    }
    // The reader itself gives some values a meaning that no form says.
    if (key.raw && (!fitting || (node.is_list() && node.items().empty()))) return;
    const size_t before = problems.size();
    this->form(node, *form);
    if (problems.size() == before || node.is_map() || form->type == ValueType::map) return;
    const bool of_scalars = form->type == ValueType::list &&
                            form->item->type != ValueType::map &&
                            form->item->type != ValueType::component;
    if (of_scalars && node.is_list() && keep_rest(node)) return;
    if (!required) {
      edits.push_back({node.path(), {}});
    } else if (form->type == ValueType::component && !stand_in(form->component).empty()) {
      edits.push_back({node.path(), stand_in(form->component)});
    } else if (form->type != ValueType::list || form->item->type != ValueType::map) {
      whole = false;
    }
  }

  // What is right in a list is read on. False where that is nothing.
  bool keep_rest(const ConfigNode& list) {
    std::string kept = "[";
    for (const ConfigNode& item : list.items()) {
      if (!item.is_scalar() || is_reported(item)) continue;
      std::string text = to_yaml(item);
      text.pop_back();
      kept += (kept.size() == 1 ? "" : ", ") + text;
    }
    if (kept.size() == 1) return false;
    edits.push_back({list.path(), kept + "]"});
    return true;
  }

  bool is_reported(const ConfigNode& node) const {
    return std::any_of(problems.begin(), problems.end(), [&](const ConfigProblem& problem) {
      return problem.path == node.path();
    });
  }

  void form(const ConfigNode& node, const ValueForm& form) {
    if (!note([&] { check_form(node, form); })) {
      if (form.type == ValueType::map || form.type == ValueType::list) whole = false;
      return;
    }
    if (form.type == ValueType::map) {
      map(node, *form.map);
    } else if (form.type == ValueType::component) {
      component(node, form.component);
    } else if (form.type == ValueType::list) {
      for (const ConfigNode& item : node.items()) this->form(item, *form.item);
    }
  }

  void component(const ConfigNode& node, const std::string& kind) {
    component(read_component(node), kind, node.path());
  }

  void component(ComponentSpec spec, const std::string& kind, const std::string& path) {
    if (kind.empty()) return;
    const ComponentInfo* info = nullptr;
    if (!note([&] { info = find_component(registry_, kind, spec); })) {
      problems.back().path = path;
      replace_component(path, kind);
      return;
    }
    for (const OptionSpec& option : info->options) {
      const auto given = spec.options.find(option.name);
      if (option.type != OptionType::component || given == spec.options.end()) continue;
      const std::string inner = config::join_path(path, option.name);
      if (given->second.component) {
        component(*given->second.component, kind, inner);
      } else {
        component({given->second.text, {}, given->second.where}, kind, inner);
      }
    }
    // Each wrong option is taken out of the copy, until the rest is right.
    bool took_required = false;
    while (true) {
      try {
        (void)resolve_options(*info, spec, kind);
        return;
      } catch (const UserError& error) {
        const std::string text = error.what();
        const std::string culprit = culprit_of(text, spec, kind);
        if (culprit.empty()) {
          if (!took_required) problems.push_back({leading_place(text), path, text});
          replace_component(path, kind);
          return;
        }
        for (const OptionSpec& option : info->options) {
          took_required = took_required || (option.name == culprit && option.required);
        }
        problems.push_back({leading_place(text), config::join_path(path, culprit), text});
        replace_component(path, kind);
        spec.options.erase(culprit);
      }
    }
  }

  // The option that a message of `resolve_options` is about.
  static std::string culprit_of(const std::string& text, const ComponentSpec& spec,
                                const std::string& kind) {
    for (const auto& [name, option] : spec.options) {
      const std::string named = detail::concat("[", kind, ".", spec.type, ".", name, "]");
      if (text.find(named) != std::string::npos ||
          text.find(detail::concat("unknown option '", name, "'")) != std::string::npos) {
        return name;
      }
    }
    return "";
  }

  std::string stand_in(const std::string& kind) const {
    const auto first = [](const auto& entries) -> std::string {
      for (const auto& entry : entries) {
        const auto needs = [](const OptionSpec& option) { return option.required; };
        if (std::none_of(entry.info.options.begin(), entry.info.options.end(), needs)) {
          return entry.info.name;
        }
      }
      return "";
    };
    if (kind == "cache") return first(registry_.caches());
    if (kind == "attention") return first(registry_.attentions());
    return kind == "position" ? first(registry_.positions()) : "";
  }

  // Nested components go with the one they belong to: the outermost edit of a path wins.
  void replace_component(const std::string& path, const std::string& kind) {
    if (stand_in(kind).empty()) {
      whole = false;
    } else {
      edits.push_back({path, stand_in(kind)});
    }
  }

  const ConfigSchema& schema_;
  const Registry& registry_;
};

// What the kind itself says, once for each error as long as it can be taken out.
class KindRounds {
 public:
  KindRounds(const std::string& path, const std::vector<std::string>& overrides,
             Registry& registry, std::vector<ConfigProblem>& problems)
      : path_(path), overrides_(overrides), registry_(registry), problems_(problems) {}

  void run(std::vector<ConfigEdit> edits, const MapSchema* kind, const ConfigSchema& schema) {
    for (int round = 0; round < kMostRounds; ++round) {
      std::vector<ConfigProblem> found;
      try {
        const ConfigNode root = load_edited_config(path_, overrides_, edits);
        (void)open_experiment_tree(root, "", registry_);
        return;
      } catch (const UserError& error) {
        found = problems_of(error);
      } catch (const PluginError& error) {
        found = problems_of(error);
      }
      size_t fresh = 0;
      for (ConfigProblem& problem : found) {
        if (follows(problem, problems_.size() - fresh)) continue;
        problems_.push_back(problem);
        ++fresh;
      }
      if (fresh != 1 || found.size() != 1 || kind == nullptr) return;
      const std::string& wrong = found.front().path;
      if (is_optional(wrong, *kind, schema)) {
        edits.push_back({wrong, {}});
      } else if (wrong == "control") {
        edits.push_back({wrong, first_arm(edits)});
      } else {
        return;
      }
    }
  }

 private:
  // An error inside or around something that is wrong already is its consequence.
  bool follows(const ConfigProblem& problem, size_t known_count) const {
    for (size_t i = 0; i < known_count; ++i) {
      const ConfigProblem& known = problems_[i];
      if (!problem.where.empty() && problem.where == known.where) return true;
      if (problem.path.empty() || known.path.empty()) continue;
      if (inside(problem.path, known.path) || inside(known.path, problem.path)) return true;
    }
    return false;
  }

  // A control that does exist, so that what comes after it is looked at.
  std::string first_arm(const std::vector<ConfigEdit>& edits) const {
    const ConfigNode root = load_edited_config(path_, overrides_, edits);
    const ConfigNode* name = node_at(root, "arms.0.name");
    return name != nullptr && name->is_scalar() ? name->text() : "";
  }

  // Whether the key may be absent in every map on the way, as far as the schema goes.
  static bool is_optional(const std::string& path, const MapSchema& kind,
                          const ConfigSchema& schema) {
    if (path.empty()) return false;
    const MapSchema* map = &schema.resolve(kind);
    std::string_view rest = path;
    while (true) {
      const std::string_view name = rest.substr(0, rest.find('.'));
      const KeySchema* key = map->find(name);
      if (key == nullptr) return false;
      if (rest.size() == name.size()) return !map->is_required(*key);
      rest.remove_prefix(name.size() + 1);
      const MapSchema* next = nullptr;
      for (const ValueForm& form : key->forms) {
        if (form.type == ValueType::map) next = form.map.get();
        if (form.type == ValueType::list && form.item->type == ValueType::map &&
            rest.find_first_not_of("0123456789") != 0) {
          next = form.item->map.get();
        }
      }
      if (next == nullptr) return false;
      if (const size_t dot = rest.find('.');
          rest.find_first_not_of("0123456789") == dot && dot != std::string_view::npos) {
        rest.remove_prefix(dot + 1);
      }
      map = &schema.resolve(*next);
    }
  }

  const std::string& path_;
  const std::vector<std::string>& overrides_;
  Registry& registry_;
  std::vector<ConfigProblem>& problems_;
};

}  // namespace

std::vector<ConfigProblem> check_experiment(const std::string& path,
                                            const std::vector<std::string>& overrides,
                                            Registry& registry) {
  std::vector<ConfigProblem> first;
  ConfigNode root;
  try {
    root = load_config_file(path, overrides);
    // Without the values of a sweep, what is left is one experiment.
    if (root.find("sweep") != nullptr) root = load_edited_config(path, overrides, {{"sweep", {}}});
  } catch (const ConfigError& error) {
    return error.problems();
  }
  try {
    (void)open_experiment_tree(root, "", registry);
    return {};
  } catch (const UserError& error) {
    first = problems_of(error);
  } catch (const PluginError& error) {
    first = problems_of(error);
  }

  const ConfigNode* kind_node = root.find("experiment");
  const std::string kind =
      kind_node != nullptr && kind_node->is_scalar() ? kind_node->text() : std::string();
  const ConfigSchema schema = record_config_schema(registry, kind.empty() ? "none" : kind);
  const auto known = schema.kinds.find(kind);
  std::vector<ConfigProblem> problems;
  SchemaWalk walk(schema, registry);
  if (known != schema.kinds.end()) {
    walk.map(root, known->second);
    problems = std::move(walk.problems);
  }
  if (walk.whole) {
    std::vector<ConfigEdit> edits = std::move(walk.edits);
    // What is inside goes first: the value around it may be replaced as well.
    std::stable_sort(edits.begin(), edits.end(),
                     [](const ConfigEdit& left, const ConfigEdit& right) {
                       return left.path.size() > right.path.size();
                     });
    edits.push_back({"sweep", {}});
    KindRounds(path, overrides, registry, problems)
        .run(std::move(edits), known == schema.kinds.end() ? nullptr : &known->second, schema);
  }
  if (problems.empty()) problems = first;
  // The reader may know more about a value than that it is none of the choices.
  for (ConfigProblem& problem : problems) {
    const bool same = first.size() == 1 && !problem.path.empty() && problem.path == first[0].path;
    if (same) problem = first[0];
  }
  std::stable_sort(problems.begin(), problems.end(),
                   [](const ConfigProblem& left, const ConfigProblem& right) {
                     return order_of(left.where) < order_of(right.where);
                   });
  return problems;
}

}  // namespace kvlab

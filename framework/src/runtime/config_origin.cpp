#include "kvlab/runtime/config_origin.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "config_tree.h"
#include "experiment_tree.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/config_error.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {

namespace {

constexpr size_t kWidestColumn = 60;  // comments of longer lines follow after two spaces

// A comment ends with its line, whatever an override holds.
std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return text;
}

class OriginWriter {
 public:
  // Defaults at the paths in `left_out` are not written.
  OriginWriter(const Registry& registry, const ConfigSchema& schema,
               const std::set<std::string>& left_out)
      : registry_(registry), schema_(schema), left_out_(left_out) {}

  // `lead` stands before the first line: the indentation, or that and a dash.
  void map(const ConfigNode& node, const MapSchema* asked, const std::string& key,
           std::string lead) {
    const std::string indent(lead.size(), ' ');
    for (const auto& [name, value] : node.entries()) {
      entry(name, value, node.key_where(name), asked, std::exchange(lead, indent), key);
    }
    defaults(node, asked, indent, node.path());
    options(node, key, indent);
  }

  const std::set<std::string>& written_defaults() const { return written_defaults_; }

  std::string take() const {
    size_t width = 0;
    for (const auto& [text, comment] : lines_) {
      if (text.size() <= kWidestColumn) width = std::max(width, text.size());
    }
    std::string out;
    for (const auto& [text, comment] : lines_) {
      const std::string gap(text.size() < width ? width - text.size() + 2 : 2, ' ');
      out += text + (comment.empty() ? "" : gap + "# " + one_line(comment)) + "\n";
    }
    return out;
  }

 private:
  static std::string scalar(const ConfigNode& node) {
    std::string text = to_yaml(node);
    text.pop_back();
    return text;
  }

  static std::string path_or_text(const std::string& key, const ConfigNode& node) {
    if (!is_data_path_key(key)) return scalar(node);
    try {
      std::string quoted = "\"";
      for (const char c : resolve_path(node)) {
        if (c == '"' || c == '\\') quoted += '\\';
        quoted += c;
      }
      return quoted + "\"";
    } catch (const MissingError&) {
      return scalar(node);  // a run would say so
    }
  }

  static bool is_flat(const ConfigNode& list) {
    return std::all_of(list.items().begin(), list.items().end(),
                       [](const ConfigNode& item) { return item.is_scalar(); });
  }

  void entry(const std::string& key, const ConfigNode& value, const std::string& key_where,
             const MapSchema* asked, const std::string& lead, const std::string& kind) {
    // A component inside a component is of the same kind, whatever the option is called.
    const bool is_component = component_kinds().contains(kind);
    const std::string head = lead + key + ":";
    // What the command line added stands nowhere.
    const std::string place = value.where().empty() ? "as resolved" : value.where();
    if (value.is_scalar()) {
      lines_.emplace_back(head + " " + path_or_text(key, value), place);
    } else if (value.is_list() && is_flat(value)) {
      std::string text = "[";
      for (const ConfigNode& item : value.items()) {
        text += (text.size() == 1 ? "" : ", ") + scalar(item);
      }
      lines_.emplace_back(head + " " + text + "]", place);
    } else if (value.is_map()) {
      lines_.emplace_back(head + (value.entries().empty() ? " {}" : ""),
                          key_where.empty() ? place : key_where);
      map(value, below(asked, key, false), is_component ? kind : key,
          std::string(lead.size() + 2, ' '));
    } else {
      lines_.emplace_back(head, key_where.empty() ? place : key_where);
      for (const ConfigNode& item : value.items()) {
        const std::string dash(lead.size() + 2, ' ');
        if (item.is_map()) {
          map(item, below(asked, key, true), key, dash + "- ");
        } else {
          lines_.emplace_back(dash + "- " + scalar(item), item.where());
        }
      }
    }
  }

  static const MapSchema* below(const MapSchema* asked, const std::string& key, bool in_list) {
    const KeySchema* known = asked == nullptr ? nullptr : asked->find(key);
    if (known == nullptr) return nullptr;
    for (const ValueForm& form : known->forms) {
      if (!in_list && form.type == ValueType::map) return form.map.get();
      if (in_list && form.type == ValueType::list && form.item->type == ValueType::map) {
        return form.item->map.get();
      }
    }
    return nullptr;
  }

  void defaults(const ConfigNode& node, const MapSchema* asked, const std::string& indent,
                const std::string& path) {
    if (asked == nullptr) return;
    for (const KeySchema& key : asked->keys) {
      if (node.find(key.name) != nullptr || (indent.empty() && is_refused(key.name))) continue;
      const std::string key_path = config::join_path(path, key.name);
      if (left_out_.contains(key_path)) continue;
      if (key.fallback) {
        written_defaults_.insert(key_path);
        lines_.emplace_back(indent + key.name + ": " + quoted_where_needed(*key.fallback),
                            "default");
      } else if (key.name == "runtime" || key.name == "measure") {
        const auto part = schema_.parts.find(key.name);
        if (part == schema_.parts.end() || !is_shared(key.name)) continue;
        lines_.emplace_back(indent + key.name + ":", "default");
        defaults(ConfigNode(), &part->second, indent + "  ", key_path);
      }
    }
  }

  // Shared readers may ask for a key that the kind refuses afterwards.
  bool is_refused(const std::string& key) const {
    return std::any_of(schema_.kinds.begin(), schema_.kinds.end(), [&](const auto& kind) {
      return kind.second.find(key) == nullptr;
    });
  }

  // Whether the kind reads the key as the shared part of that name.
  bool is_shared(const std::string& key) const {
    for (const auto& [name, kind] : schema_.kinds) {
      const MapSchema* map = below(&kind, key, false);
      if (map != nullptr && map->part == key) return true;
    }
    return false;
  }

  static const std::set<std::string>& component_kinds() {
    static const std::set<std::string> kKinds = {"cache",      "caches",   "attention",
                                                 "attentions", "position", "positions"};
    return kKinds;
  }

  static std::string quoted_where_needed(const std::string& text) {
    return text.find(':') == std::string::npos ? text : "\"" + text + "\"";
  }

  // Options that a component's map leaves to their defaults.
  void options(const ConfigNode& node, const std::string& key, const std::string& indent) {
    const ConfigNode* type = node.find("type");
    if (type == nullptr || !type->is_scalar() || !component_kinds().contains(key)) return;
    const auto add = [&](const auto& entries) {
      for (const auto& entry : entries) {
        if (entry.info.name != type->text()) continue;
        for (const OptionSpec& option : entry.info.options) {
          if (node.find(option.name) != nullptr || option.default_text.empty()) continue;
          lines_.emplace_back(indent + option.name + ": " +
                                  quoted_where_needed(option.default_text),
                              "default of " + entry.info.name);
        }
      }
    };
    if (key.starts_with("cache")) add(registry_.caches());
    if (key.starts_with("attention")) add(registry_.attentions());
    if (key.starts_with("position")) add(registry_.positions());
  }

  const Registry& registry_;
  const ConfigSchema& schema_;
  const std::set<std::string>& left_out_;
  std::set<std::string> written_defaults_;                  // paths
  std::vector<std::pair<std::string, std::string>> lines_;  // text, comment
};

// The path at which the text is refused as a config; empty where it is none, or unknown.
std::string refused_path(const std::string& text, Registry& registry) {
  const auto source = std::make_shared<config::Source>();
  source->name = "printed config";
  try {
    config::Tree tree = config::parse_yaml(text, source);
    // Without the values of a sweep, what is left is one experiment.
    std::erase_if(tree.members, [](const config::Member& one) { return one.key == "sweep"; });
    (void)open_experiment_tree(config::freeze(tree), text, registry);
  } catch (const ConfigError& error) {
    return error.problems().front().path;
  } catch (const UserError&) {
    // It has no place, so no default of ours is to blame.
  }
  return "";
}

}  // namespace

std::string to_yaml_with_origin(const ConfigNode& root, Registry& registry,
                                const MapSchema& asked, const ConfigSchema& schema) {
  // Each round leaves out one default more, so there is an end.
  for (std::set<std::string> left_out;;) {
    OriginWriter writer(registry, schema, left_out);
    writer.map(root, &asked, "", "");
    std::string text = writer.take();
    const std::string refused = refused_path(text, registry);
    if (refused.empty()) return text;
    const size_t before = left_out.size();
    for (const std::string& path : writer.written_defaults()) {
      // A kind may point at the map instead of the key in it.
      if (path == refused || path.starts_with(refused + ".")) left_out.insert(path);
    }
    if (left_out.size() == before) return text;  // the config itself is to blame
  }
}

}  // namespace kvlab

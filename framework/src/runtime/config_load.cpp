// From file to tree: reading, `use:` and overrides.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "config_tree.h"
#include "kvlab/core/component.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/config_edit.h"
#include "kvlab/runtime/config_node.h"

namespace kvlab {

namespace {

namespace fs = std::filesystem;
using config::Member;
using config::Place;
using config::Source;
using config::Tree;
using Kind = ConfigNode::Kind;

std::string folder_of(const std::string& path) {
  return fs::absolute(path).lexically_normal().parent_path().string();
}

std::string read_text(const std::string& path) {
  std::error_code ignored;
  KVLAB_CHECK(!fs::is_directory(path, ignored), path,
              ":1:1: a config is a file, got a folder; name the .yaml file in it");
  std::ifstream stream(path, std::ios::binary);
  KVLAB_CHECK(stream.good(), path, ":1:1: the file cannot be opened; check its permissions");
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// Two maps that both choose a type are the same component only where the types agree.
bool other_type(const Tree& base, const Tree& over) {
  const std::string* left = base.scalar("type");
  const std::string* right = over.scalar("type");
  return left != nullptr && right != nullptr && *left != *right;
}

void merge(Tree& base, Tree over) {
  for (Member& member : over.members) {
    Member* known = base.find(member.key);
    if (known == nullptr) {
      base.members.push_back(std::move(member));
    } else if (known->value.kind == Kind::map && member.value.kind == Kind::map &&
               !other_type(known->value, member.value)) {
      merge(known->value, std::move(member.value));
    } else {
      *known = std::move(member);
    }
  }
}

class Loader {
 public:
  explicit Loader(std::string main_file) : main_file_(std::move(main_file)) {}

  Tree load_text(std::string_view text) {
    chain_ = {fs::weakly_canonical(main_file_).string()};
    return parse_file(text, main_file_);
  }

  void apply(Tree& root, const std::string& override_text) {
    auto source = std::make_shared<Source>();
    source->name = "override '" + override_text + "'";
    source->folders = {fs::current_path().string(), folder_of(main_file_)};
    source->is_override = true;
    const Place place{source, 0, 0};

    std::string_view rest = override_text;
    if (rest.starts_with('~')) {
      rest.remove_prefix(1);
      if (rest.empty() || rest.find('=') != std::string_view::npos) {
        config::fail(place, "", "what removes a key is ~key.path, without a value");
      }
      source->path = rest;
      remove(root, source->path, place);
      return;
    }
    const bool adds = rest.starts_with('+');
    if (adds) rest.remove_prefix(1);
    const size_t equals = rest.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      config::fail(place, "", "an override is key.path=value, +key.path=value or ~key.path");
    }
    const std::string path(rest.substr(0, equals));
    source->path = path;
    Tree value = parse_value(rest.substr(equals + 1), source);
    // A map is replaced by a file through its key `use`, which is gone once it was followed.
    const bool uses = path.ends_with(".use");
    if (uses) {
      Tree map;
      map.place = place;
      map.members.push_back({"use", place, std::move(value)});
      value = std::move(map);
    }
    expand(value, path);
    set(root, uses ? path.substr(0, path.size() - 4) : path, place, std::move(value), adds);
  }

 private:
  Tree parse_file(std::string_view text, const std::string& file) {
    auto source = std::make_shared<Source>();
    source->name = file;
    source->folders = {folder_of(file)};
    Tree tree = config::parse_yaml(text, source);
    if (tree.kind != Kind::map) {
      config::fail(tree.place, "",
                   detail::concat("the top level must be a map of keys and values, got a ",
                                  tree.kind == Kind::list ? "list" : "single value"));
    }
    expand(tree, "");
    return tree;
  }

  static Tree parse_value(std::string_view text, const std::shared_ptr<const Source>& source) {
    // Inside brackets only flow style is YAML.
    const std::string wrapped = detail::concat("[", text, "\n]");
    Tree list = config::parse_yaml(wrapped, source);
    if (list.items.size() != 1) {
      config::fail(Place{source, 0, 0}, source->path,
                   list.items.empty()
                       ? "the value is missing; write key.path=value"
                       : detail::concat("an override sets one value, got ", list.items.size(),
                                        "; write a list as [a, b], or quote the text"));
    }
    return std::move(list.items.front());
  }

  // Replaces every map that holds `use` by the file's content, overridden by the other keys.
  void expand(Tree& tree, const std::string& path) {
    for (Member& member : tree.members) {
      expand(member.value, config::join_path(path, member.key));
    }
    for (size_t i = 0; i < tree.items.size(); ++i) {
      expand(tree.items[i], config::join_path(path, std::to_string(i)));
    }
    const Member* use = tree.kind == Kind::map ? tree.find("use") : nullptr;
    if (use == nullptr) return;
    Tree content = load_used(use->value, config::join_path(path, "use"));
    content.place = tree.place;
    tree.members.erase(tree.members.begin() + (use - tree.members.data()));
    merge(content, std::move(tree));
    tree = std::move(content);
  }

  Tree load_used(const Tree& name, const std::string& path) {
    if (name.kind != Kind::scalar || name.text.empty()) {
      config::fail(name.place, path,
                   detail::concat("wanted the name of one file, got ",
                                  name.kind == Kind::map    ? "a map"
                                  : name.kind == Kind::list ? "a list; merge the files first"
                                                            : "an empty text"));
    }
    std::vector<std::string> looked;
    const std::string found = config::find_file(name.text, name.place.source->folders, looked);
    if (found.empty()) {
      config::fail_missing(detail::concat(name.place.text(), ": ", path, ": "), name.text, looked);
    }
    const std::string canonical = fs::weakly_canonical(found).string();
    if (std::find(chain_.begin(), chain_.end(), canonical) != chain_.end()) {
      std::string circle;
      for (const std::string& file : chain_) circle += fs::path(file).filename().string() + " -> ";
      config::fail(name.place, path,
                   detail::concat("files use each other in a circle: ", circle,
                                  fs::path(canonical).filename().string(), "; break it"));
    }
    if (++files_ > kMaximumFiles) {
      config::fail(name.place, path, detail::concat("a config uses at most ", kMaximumFiles,
                                                    " files, counted each time they are used"));
    }
    chain_.push_back(canonical);
    Tree content = parse_file(read_text(found), found);
    chain_.pop_back();
    return content;
  }

  struct Step {
    Tree* next = nullptr;
    std::string_view name;
  };

  // The longest name that `rest` starts with: names and keys may themselves hold dots.
  static Step longest(Tree& tree, std::string_view rest) {
    Step best;
    const auto offer = [&](std::string_view name, Tree& value) {
      const bool fits = rest == name || (rest.starts_with(name) && rest[name.size()] == '.');
      if (fits && name.size() > best.name.size()) best = {&value, rest.substr(0, name.size())};
    };
    for (Member& member : tree.members) offer(member.key, member.value);
    for (Tree& item : tree.items) {
      const std::string* name = item.scalar("name");
      if (name != nullptr) offer(*name, item);
    }
    if (best.next != nullptr || tree.kind != Kind::list) return best;
    const std::string_view index = rest.substr(0, rest.find('.'));
    if (!index.empty() && index.size() < 6 &&
        index.find_first_not_of("0123456789") == std::string_view::npos) {
      const auto i = static_cast<size_t>(std::stoul(std::string(index)));
      if (i < tree.items.size()) best = {&tree.items[i], index};
    }
    return best;
  }

  static std::vector<std::string> names_in(const Tree& tree) {
    std::vector<std::string> names;
    for (const Member& member : tree.members) names.push_back(member.key);
    for (size_t i = 0; i < tree.items.size(); ++i) {
      const std::string* name = tree.items[i].scalar("name");
      names.push_back(name != nullptr ? *name : std::to_string(i));
    }
    return names;
  }

  static void set(Tree& root, const std::string& path, const Place& place, Tree value, bool adds) {
    Tree* tree = &root;
    std::string_view rest = path;
    while (true) {
      if (tree->kind == Kind::scalar) {
        config::fail(place, path, detail::concat("cannot set '", rest, "' inside a single value"));
      }
      Step step = longest(*tree, rest);
      if (step.next == nullptr) {
        const std::string_view name = rest.substr(0, rest.find('.'));
        if (name.empty()) config::fail(place, path, "the key path has an empty part");
        const bool append = tree->kind == Kind::list && name == std::to_string(tree->items.size());
        if (!adds || (tree->kind == Kind::list && !append)) {
          config::fail(place, path,
                       detail::concat("there is no '", name, "' to override.",
                                      suggestion(name, names_in(*tree)),
                                      tree->kind == Kind::map ? " Write a leading + to add it."
                                                              : " Write +key.path.N to append."));
        }
        Tree empty;
        empty.place = place;
        if (tree->kind == Kind::list) {
          tree->items.push_back(std::move(empty));
          step = {&tree->items.back(), name};
        } else {
          tree->members.push_back({std::string(name), place, std::move(empty)});
          step = {&tree->members.back().value, name};
        }
      }
      tree = step.next;
      if (rest.size() == step.name.size()) break;
      rest.remove_prefix(step.name.size() + 1);
    }
    *tree = std::move(value);
  }

  static void remove(Tree& root, const std::string& path, const Place& place) {
    Tree* tree = &root;
    std::string_view rest = path;
    while (true) {
      const Step step = longest(*tree, rest);
      if (step.next == nullptr) {
        const std::string_view name = rest.substr(0, rest.find('.'));
        config::fail(place, path,
                     detail::concat("there is no '", name, "' to remove.",
                                    suggestion(name, names_in(*tree))));
      }
      if (rest.size() == step.name.size()) {
        const auto member =
            std::find_if(tree->members.begin(), tree->members.end(),
                         [&](const Member& each) { return &each.value == step.next; });
        if (member != tree->members.end()) {
          tree->members.erase(member);
        } else {
          tree->items.erase(tree->items.begin() + (step.next - tree->items.data()));
        }
        return;
      }
      tree = step.next;
      rest.remove_prefix(step.name.size() + 1);
    }
  }

  static constexpr int kMaximumFiles = 1000;
  std::string main_file_;
  std::vector<std::string> chain_;  // files being read, outermost first
  int files_ = 0;
};

void place_all(Tree& tree, const Place& place) {
  tree.place = place;
  for (Member& member : tree.members) {
    member.place = place;
    place_all(member.value, place);
  }
  for (Tree& item : tree.items) place_all(item, place);
}

// Looks for the edit's path below `tree`, which stands at `path`. False where nothing is there.
bool edit(Tree& tree, const std::string& path, const ConfigEdit& change) {
  const auto replace = [&](Tree& value) {
    auto source = std::make_shared<Source>(*value.place.source);
    Tree list = config::parse_yaml(detail::concat("[", *change.replacement, "\n]"), source);
    const Place place = value.place;
    value = std::move(list.items.front());
    place_all(value, place);
  };
  const auto below = [&](const std::string& inner) {
    return change.path.starts_with(inner + ".");
  };
  for (size_t i = 0; i < tree.members.size(); ++i) {
    const std::string inner = config::join_path(path, tree.members[i].key);
    if (inner == change.path) {
      if (change.replacement) {
        replace(tree.members[i].value);
      } else {
        tree.members.erase(tree.members.begin() + static_cast<std::ptrdiff_t>(i));
      }
      return true;
    }
    if (below(inner) && edit(tree.members[i].value, inner, change)) return true;
  }
  for (size_t i = 0; i < tree.items.size(); ++i) {
    const std::string inner = config::join_path(path, std::to_string(i));
    if (inner == change.path && change.replacement) {
      replace(tree.items[i]);
      return true;
    }
    if (below(inner) && edit(tree.items[i], inner, change)) return true;
  }
  return false;
}

}  // namespace

ConfigNode load_edited_config(const std::string& path, const std::vector<std::string>& overrides,
                              const std::vector<ConfigEdit>& edits) {
  Loader loader(path);
  Tree tree = loader.load_text(read_text(path));
  for (const std::string& override_text : overrides) loader.apply(tree, override_text);
  for (const ConfigEdit& change : edits) edit(tree, "", change);
  return config::freeze(tree);
}

ConfigNode parse_config_text(std::string_view text, const std::string& file_name) {
  return config::freeze(Loader(file_name).load_text(text));
}

ConfigNode load_config_file(const std::string& path, const std::vector<std::string>& overrides) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    throw MissingError(detail::concat("[runtime.config.load] there is no config file '", path,
                                      "', looked at ",
                                      fs::absolute(path).lexically_normal().string()));
  }
  Loader loader(path);
  Tree tree = loader.load_text(read_text(path));
  for (const std::string& override_text : overrides) loader.apply(tree, override_text);
  return config::freeze(tree);
}

}  // namespace kvlab

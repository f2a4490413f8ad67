#include "kvlab/runtime/config_node.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <system_error>

#include "config_tree.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/config_error.h"

namespace kvlab {

struct ConfigNode::Data {
  Kind kind = Kind::map;
  std::string where, path;
  std::shared_ptr<const config::Source> source;  // shared by all nodes of a file
  std::string text;
  bool quoted = false;
  std::vector<Entry> entries;
  std::vector<std::string> key_wheres;  // of `entries`, in their order
  std::vector<ConfigNode> items;
};

ConfigNode with_texts(const ConfigNode& map, const std::string& key,
                      const std::vector<std::string>& texts) {
  KVLAB_INVARIANT(map.is_map() && !texts.empty(), "[runtime.config_node.with_texts] '", key, "'");
  auto list = std::make_shared<ConfigNode::Data>();
  list->kind = ConfigNode::Kind::list;
  list->path = config::join_path(map.path(), key);
  for (size_t i = 0; i < texts.size(); ++i) {
    auto item = std::make_shared<ConfigNode::Data>();
    item->kind = ConfigNode::Kind::scalar;
    item->path = config::join_path(list->path, std::to_string(i));
    item->text = texts[i];
    item->quoted = true;
    list->items.emplace_back(std::move(item));
  }
  auto copy = std::make_shared<ConfigNode::Data>(*map.data_);
  for (ConfigNode::Entry& entry : copy->entries) {
    if (entry.first != key) continue;
    entry.second = ConfigNode(std::move(list));
    return ConfigNode(std::move(copy));
  }
  copy->entries.emplace_back(key, ConfigNode(std::move(list)));
  copy->key_wheres.emplace_back();
  return ConfigNode(std::move(copy));
}

namespace config {

namespace {

class Freezer {
 public:
  ConfigNode freeze(const Tree& tree, const std::string& path, int depth) {
    if (++nodes_ > kMaximumNodes) {
      fail(tree.place, path, detail::concat("a config holds at most ", kMaximumNodes,
                                            " values once every use: is followed; split it"));
    }
    if (depth > kMaximumDepth) {
      fail(tree.place, path,
           detail::concat("values are nested at most ", kMaximumDepth,
                          " deep once every use: is followed; flatten the config"));
    }
    auto data = std::make_shared<ConfigNode::Data>();
    data->kind = tree.kind;
    data->where = tree.place.text();
    data->path = path;
    data->source = tree.place.source;
    data->text = tree.text;
    data->quoted = tree.quoted;
    for (const Member& member : tree.members) {
      const std::string inner = join_path(path, member.key);
      if (member.key == "n_kv_groups") {
        fail(member.place, inner,
             "the key n_kv_groups is refused, since the field uses it for two different things "
             "(the number of KV heads, and query heads per KV head); write n_kv_heads in a model "
             "and kv_heads in a cache");
      }
      data->entries.emplace_back(member.key, freeze(member.value, inner, depth + 1));
      data->key_wheres.push_back(member.place.text());
    }
    for (size_t i = 0; i < tree.items.size(); ++i) {
      data->items.push_back(freeze(tree.items[i], join_path(path, std::to_string(i)), depth + 1));
    }
    return ConfigNode(std::move(data));
  }

 private:
  int nodes_ = 0;
};

}  // namespace

std::string Place::text() const {
  if (!source) return "";
  if (source->is_override) return source->name;
  return detail::concat(source->name, ":", line, ":", column);
}

Member* Tree::find(std::string_view key) {
  for (Member& member : members) {
    if (member.key == key) return &member;
  }
  return nullptr;
}

const std::string* Tree::scalar(std::string_view key) const {
  for (const Member& member : members) {
    if (member.key == key && member.value.kind == ConfigNode::Kind::scalar) {
      return &member.value.text;
    }
  }
  return nullptr;
}

void fail(const Place& place, const std::string& path, const std::string& message) {
  const std::string text =
      detail::concat(place.text(), ": ", path, path.empty() ? "" : ": ", message);
  throw ConfigError(text, {{place.text(), path, text}});
}

std::string join_path(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : detail::concat(path, ".", key);
}

ConfigNode freeze(const Tree& tree) { return Freezer().freeze(tree, "", 0); }

std::string find_file(const std::string& name, const std::vector<std::string>& folders,
                      std::vector<std::string>& looked) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const auto found = [&](const fs::path& candidate) {
    const std::string text = candidate.lexically_normal().string();
    if (std::find(looked.begin(), looked.end(), text) != looked.end()) return false;
    looked.push_back(text);
    return fs::exists(candidate, ignored);
  };
  if (fs::path(name).is_absolute()) return found(name) ? looked.back() : "";
  for (const std::string& start : folders) {
    fs::path folder = fs::absolute(start.empty() ? "." : start).lexically_normal();
    if (!folder.has_filename()) folder = folder.parent_path();
    while (true) {
      if (found(folder / name)) return looked.back();
      if (folder == folder.parent_path()) break;
      folder = folder.parent_path();
    }
  }
  return "";
}

void fail_missing(const std::string& where, const std::string& name,
                  const std::vector<std::string>& looked) {
  std::string places;
  for (const std::string& place : looked) places += (places.empty() ? "" : ", ") + place;
  throw MissingError(detail::concat(where, "there is no '", name, "', looked at ", places,
                                    "; correct the path, or put the file in one of these places"));
}

}  // namespace config

ConfigNode::ConfigNode() : data_(std::make_shared<const Data>()) {}
ConfigNode::ConfigNode(std::shared_ptr<const Data> data) : data_(std::move(data)) {}

ConfigNode::Kind ConfigNode::kind() const { return data_->kind; }
std::string ConfigNode::where() const { return data_->where; }
const std::string& ConfigNode::path() const { return data_->path; }

const std::vector<std::string>& ConfigNode::folders() const {
  static const std::vector<std::string> kNone;
  return data_->source ? data_->source->folders : kNone;
}

const std::string& ConfigNode::text() const {
  KVLAB_INVARIANT(is_scalar(), "[runtime.config_node.text] ", data_->path, " is no scalar");
  return data_->text;
}

bool ConfigNode::quoted() const {
  KVLAB_INVARIANT(is_scalar(), "[runtime.config_node.quoted] ", data_->path, " is no scalar");
  return data_->quoted;
}

const std::vector<ConfigNode::Entry>& ConfigNode::entries() const {
  KVLAB_INVARIANT(is_map(), "[runtime.config_node.entries] ", data_->path, " is no map");
  return data_->entries;
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const Entry& entry : entries()) {
    if (entry.first == key) return &entry.second;
  }
  return nullptr;
}

std::string ConfigNode::key_where(std::string_view key) const {
  for (size_t i = 0; i < entries().size(); ++i) {
    if (data_->entries[i].first == key) return data_->key_wheres[i];
  }
  KVLAB_INVARIANT(false, "[runtime.config_node.key_where] no key '", key, "'");
  return "";
}

const std::vector<ConfigNode>& ConfigNode::items() const {
  KVLAB_INVARIANT(is_list(), "[runtime.config_node.items] ", data_->path, " is no list");
  return data_->items;
}

std::string ConfigNode::description() const {
  if (is_map()) return "a map";
  if (is_list()) return "a list";
  if (data_->quoted) return detail::concat("the text \"", data_->text, "\"");
  return detail::concat("'", data_->text, "'");
}

bool is_data_path_key(std::string_view key) {
  static constexpr std::array<std::string_view, 4> kKeys = {"path", "tokenizer", "file", "jsonl"};
  return std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end();
}

std::string resolve_path(const ConfigNode& scalar) {
  std::vector<std::string> looked;
  const std::string found = config::find_file(scalar.text(), scalar.folders(), looked);
  if (found.empty()) {
    config::fail_missing(detail::concat(scalar.where(), ": ", scalar.path(), ": "), scalar.text(),
                         looked);
  }
  return found;
}

void fail_at(const ConfigNode& node, const std::string& message) {
  const std::string text = detail::concat(node.where(), ": ", node.path(),
                                          node.path().empty() ? "" : ": ", message);
  throw ConfigError(text, {{node.where(), node.path(), text}});
}

}  // namespace kvlab

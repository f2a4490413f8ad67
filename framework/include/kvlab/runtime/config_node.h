// A strict YAML file as an immutable tree that remembers where every value stands.
// Everything YAML readers disagree about or accept silently is an error with file:line:column.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kvlab {

/// One value of a config: a map, a list or a scalar. Copies are cheap and share the same
/// unchanging tree.
class ConfigNode {
 public:
  enum class Kind { map, list, scalar };
  using Entry = std::pair<std::string, ConfigNode>;
  struct Data;

  /// An empty map that stands nowhere.
  ConfigNode();
  explicit ConfigNode(std::shared_ptr<const Data> data);

  Kind kind() const;
  bool is_map() const { return kind() == Kind::map; }
  bool is_list() const { return kind() == Kind::list; }
  bool is_scalar() const { return kind() == Kind::scalar; }

  /// "file:line:column", counted from 1, or "override 'a.b=value'".
  std::string where() const;

  /// Keys from the top, e.g. "arms.0.cache.block_size"; empty at the top.
  const std::string& path() const;

  /// Folders in which the search for a relative path starts, in order.
  const std::vector<std::string>& folders() const;

  /// Requires: a scalar. The text without its quotes.
  const std::string& text() const;

  /// Requires: a scalar. Whether it stood in quotes or in a block scalar: then it is a text, never
  /// a number or a boolean.
  bool quoted() const;

  /// Requires: a map. In the order of the file.
  const std::vector<Entry>& entries() const;

  /// Requires: a map. Nothing where the key is absent; lives as long as this node.
  const ConfigNode* find(std::string_view key) const;

  /// Where the key of an entry stands (`where` of the node is where its value stands).
  /// Requires: a map that holds `key`.
  std::string key_where(std::string_view key) const;

  /// Requires: a list.
  const std::vector<ConfigNode>& items() const;

  /// What stands here, for messages: "'abc'", "a list", "a map".
  std::string description() const;

 private:
  friend ConfigNode with_texts(const ConfigNode& map, const std::string& key,
                               const std::vector<std::string>& texts);
  std::shared_ptr<const Data> data_;  // shared by all copies; never changes once built
};

/// Parses one YAML document whose top level is a map. `file_name` is used in messages, and its
/// folder for relative paths. `use:` is followed. Throws UserError.
ConfigNode parse_config_text(std::string_view text, const std::string& file_name);

/// Reads `path`, follows `use:`, then applies `overrides` in order; later ones win.
///
/// A map with the key `use: FILE` becomes that file's content, and the keys beside `use` override
/// it: maps are merged deeply, everything else is replaced, and so are maps whose `type` differs
/// (another component). Cycles are refused.
///
/// An override is `a.b=value`, value in YAML flow style, and sets a key that exists; `+a.b=value`
/// may add it; `~a.b` removes a key or an item that exists. Items of a list are named by index or
/// by their `name`: `arms.0.cache`, `arms.paged64.cache`. `a.use=FILE` replaces the map at `a` by
/// that file. Relative paths in an override are looked for from the working directory first, then
/// as in the file itself. Throws MissingError for a file that does not exist, else UserError.
ConfigNode load_config_file(const std::string& path,
                            const std::vector<std::string>& overrides = {});

/// Finds a file or folder that a scalar names: beside the file that names it, then in each folder
/// above. Returns an absolute path. Throws MissingError listing the places looked at.
std::string resolve_path(const ConfigNode& scalar);

/// Keys whose value names a file or folder on disk: `path`, `tokenizer`, `file`.
bool is_data_path_key(std::string_view key);

/// Writes a node as YAML that parses to the same tree. With `written_to` (the file it will be
/// stored in) values of data path keys stay as written where they lead to the same place from
/// there, else they become absolute, so that running the written file repeats the run.
std::string to_yaml(const ConfigNode& node, const std::string& written_to = "");

/// A copy of `map` in which `key` holds the list `texts`, which stands nowhere.
/// Requires: a map; at least one text.
ConfigNode with_texts(const ConfigNode& map, const std::string& key,
                      const std::vector<std::string>& texts);

/// Throws UserError "where: key.path: message".
[[noreturn]] void fail_at(const ConfigNode& node, const std::string& message);

}  // namespace kvlab

// The mutable tree that config loading works on before it is frozen into ConfigNode. Private.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kvlab/runtime/config_node.h"

namespace kvlab::config {

constexpr size_t kMaximumBytes = 1 << 20;
constexpr int kMaximumDepth = 32;
constexpr int kMaximumNodes = 10000;

/// Where text came from. Shared by all trees parsed from it.
struct Source {
  std::string name;                  ///< file name, or "override 'a.b=value'"
  std::vector<std::string> folders;  ///< where the search for relative paths starts
  bool is_override = false;
  std::string path;                  ///< keys that an override sets
};

/// A place in a source; an override has no lines.
struct Place {
  std::shared_ptr<const Source> source;
  int line = 0, column = 0;
  std::string text() const;
};

struct Member;

struct Tree {
  ConfigNode::Kind kind = ConfigNode::Kind::map;
  Place place;
  std::string text;  // of a scalar
  bool quoted = false;
  std::vector<Member> members;  // of a map
  std::vector<Tree> items;      // of a list

  Member* find(std::string_view key);
  /// The `text` of a member that is a scalar, or nothing.
  const std::string* scalar(std::string_view key) const;
};

struct Member {
  std::string key;
  Place place;
  Tree value;
};

/// Throws UserError "place: path: message".
[[noreturn]] void fail(const Place& place, const std::string& path, const std::string& message);

std::string join_path(const std::string& path, std::string_view key);

/// Parses one YAML document of any kind, strictly. Does not follow `use`.
Tree parse_yaml(std::string_view text, const std::shared_ptr<const Source>& source);

/// Builds the immutable tree. Throws UserError for limits and for keys that are never allowed.
ConfigNode freeze(const Tree& tree);

/// An absolute path, or "" with every place looked at in `looked`.
std::string find_file(const std::string& name, const std::vector<std::string>& folders,
                      std::vector<std::string>& looked);

/// Throws MissingError naming the places.
[[noreturn]] void fail_missing(const std::string& where, const std::string& name,
                               const std::vector<std::string>& looked);

/// Whether a reader takes a plain scalar for a number.
bool looks_like_number(std::string_view text);

}  // namespace kvlab::config

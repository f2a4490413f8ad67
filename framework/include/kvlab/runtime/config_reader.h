// Typed reading of a config map, which notices every key that nobody asked for.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvlab/core/component.h"
#include "kvlab/runtime/config_node.h"

namespace kvlab {

/// Inclusive bounds of a whole number.
struct IntegerRange {
  int64_t minimum = std::numeric_limits<int64_t>::min();
  int64_t maximum = std::numeric_limits<int64_t>::max();
};

/// Bounds of a number; open bounds exclude the bound itself.
struct NumberRange {
  double minimum = std::numeric_limits<double>::lowest();
  double maximum = std::numeric_limits<double>::max();
  bool minimum_open = false;
  bool maximum_open = false;
};

/// Reads the keys of one map. Every getter marks its key as known, present or not; `finish` then
/// refuses the keys that were never asked for, here and in all child readers handed out. Getters
/// throw UserError "file:line:column: key.path: rule, got ..., what to do". Plain `name(key)` means
/// required, `name_or(key, fallback)` and `optional_name(key)` mean the key may be absent.
/// Copies share one record of asked keys.
class ConfigReader {
 public:
  /// Throws UserError unless `map` is a map.
  explicit ConfigReader(const ConfigNode& map);

  const ConfigNode& node() const;

  /// Whether the key is present. Marks it as known.
  bool has(std::string_view key);

  /// The value itself, whatever it is; everything inside counts as read.
  ConfigNode value(std::string_view key);
  std::optional<ConfigNode> optional_value(std::string_view key);

  /// A non-empty text; a plain number or boolean is refused (quote it).
  std::string text(std::string_view key);
  std::string text_or(std::string_view key, const std::string& fallback);
  std::optional<std::string> optional_text(std::string_view key);

  /// true or false, nothing else.
  bool boolean(std::string_view key);
  bool boolean_or(std::string_view key, bool fallback);

  int64_t integer(std::string_view key, IntegerRange range = {});
  int64_t integer_or(std::string_view key, int64_t fallback, IntegerRange range = {});
  std::optional<int64_t> optional_integer(std::string_view key, IntegerRange range = {});

  /// A finite number; whole numbers count.
  double number(std::string_view key, NumberRange range = {});
  double number_or(std::string_view key, double fallback, NumberRange range = {});

  std::string choice(std::string_view key, const std::vector<std::string>& choices);
  std::string choice_or(std::string_view key, const std::string& fallback,
                        const std::vector<std::string>& choices);
  std::optional<std::string> optional_choice(std::string_view key,
                                             const std::vector<std::string>& choices);

  /// Lists hold at least one value, and no value twice.
  std::vector<int64_t> integers(std::string_view key, IntegerRange range = {});
  std::vector<int64_t> integers_or(std::string_view key, const std::vector<int64_t>& fallback,
                                   IntegerRange range = {});
  std::vector<double> numbers(std::string_view key, NumberRange range = {});
  std::vector<std::string> texts(std::string_view key);
  std::vector<std::string> texts_or(std::string_view key,
                                    const std::vector<std::string>& fallback);

  /// `{type: paged, block_size: 16}`, `paged` or `paged:block_size=16`. An option that is a map
  /// becomes a nested component. Names and types of options are checked by `resolve_options`.
  ComponentSpec component(std::string_view key);
  ComponentSpec component_or(std::string_view key, const ComponentSpec& fallback);
  std::optional<ComponentSpec> optional_component(std::string_view key);
  std::vector<ComponentSpec> components(std::string_view key);

  /// The absolute path of an existing file or folder (see `resolve_path`).
  /// Requires: `is_data_path_key(key)`, so that `to_yaml` keeps it findable.
  std::string data_path(std::string_view key);
  std::optional<std::string> optional_data_path(std::string_view key);

  ConfigReader child(std::string_view key);
  std::optional<ConfigReader> optional_child(std::string_view key);

  /// A reader for each map of a list that holds at least one.
  std::vector<ConfigReader> children(std::string_view key);

  /// Throws UserError for the first key that nobody asked for, with the nearest known key.
  void finish() const;

  /// Throws UserError at the value of `key`, or at this map where it is absent.
  [[noreturn]] void fail(std::string_view key, const std::string& message) const;

  struct State;

 private:
  const ConfigNode* ask(std::string_view key);
  const ConfigNode& need(std::string_view key);

  std::shared_ptr<State> state_;  // shared with copies, and with the parent for its `finish`
};

/// Reads a component from a node, as `ConfigReader::component` does.
ComponentSpec read_component(const ConfigNode& node);

}  // namespace kvlab

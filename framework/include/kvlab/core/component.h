// How a plugin describes itself and its options, and how a user's choice of one is written.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace kvlab {

enum class OptionType { boolean, integer, number, text, component };

/// One option of a plugin. Catalogue, validation and `kvlab describe` come from it.
struct OptionSpec {
  std::string name;
  OptionType type = OptionType::integer;
  std::string default_text;  ///< as a user would write it; empty together with `required`
  std::string unit;          ///< "tokens", "heads", ...; empty for none
  std::string doc;           ///< one sentence
  std::optional<double> minimum, maximum;  ///< inclusive, for integer and number
  std::vector<std::string> choices;        ///< for text; empty means any
  bool required = false;
};

/// What a registry entry says about a plugin.
struct ComponentInfo {
  std::string name;     ///< as in YAML
  std::string summary;  ///< one line
  std::string citation; ///< paper or system, empty where there is none
  std::vector<OptionSpec> options = {};
  /// Option texts worth showing and testing beside the defaults: "block_size=5". What does not fit a
  /// shape is refused by the plugin and left out.
  std::vector<std::string> examples = {};
};

struct ComponentSpec;

/// An option as the user wrote it, not yet typed.
struct RawOption {
  std::string text;                                ///< the scalar; unused for a nested component
  std::shared_ptr<const ComponentSpec> component;  ///< shared: specs are copied and never change
  std::string where;                               ///< "file:line:column", empty on a command line
};

/// A component as the user wrote it: `{type: paged, block_size: 16}` or `paged:block_size=16`.
struct ComponentSpec {
  std::string type;
  std::map<std::string, RawOption> options;
  std::string where;
};

/// Reads `name[:option=value,...]`. A dot reaches into a nested component:
/// `gqa_shared:kv_heads=3,inner=paged,inner.block_size=16`. Throws UserError.
ComponentSpec parse_component_spec(std::string_view text);

/// Writes a spec in the form `parse_component_spec` reads.
std::string to_string(const ComponentSpec& spec);

/// Options after validation: every option of the plugin has a value of its type.
class Options {
 public:
  using Value = std::variant<bool, int64_t, double, std::string, ComponentSpec>;

  bool boolean(std::string_view name) const;
  int64_t integer(std::string_view name) const;
  double number(std::string_view name) const;
  const std::string& text(std::string_view name) const;
  const ComponentSpec& component(std::string_view name) const;

  /// All options by name, defaults included.
  const std::map<std::string, Value, std::less<>>& values() const { return values_; }

 private:
  friend Options resolve_options(const ComponentInfo& info, const ComponentSpec& spec,
                                 std::string_view kind);
  template <typename T>
  const T& get(std::string_view name) const;
  std::map<std::string, Value, std::less<>> values_;
};

/// Checks `spec` against the options that `info` declares and fills in defaults. `kind` names the
/// component in messages ("cache", "attention", "position"). Throws UserError for an unknown,
/// missing, mistyped or out-of-range option, with the place and the nearest known name.
Options resolve_options(const ComponentInfo& info, const ComponentSpec& spec,
                        std::string_view kind);

/// Known names close to `name` (edit distance), best first, at most three.
std::vector<std::string> near_names(std::string_view name, const std::vector<std::string>& known);

/// " Did you mean 'x'? Known: a, b, x." for an error message.
std::string suggestion(std::string_view name, const std::vector<std::string>& known);

}  // namespace kvlab

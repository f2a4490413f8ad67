// Which keys a config may hold, learnt from the readers themselves: while a recording is on, every
// ConfigReader notes what it is asked for. So there is one source for what is read, what is checked
// and what `kvlab schema` prints.
//
// An experiment kind takes part by giving `info.examples` of its registry entry: its own keys and
// those it shares, as YAML. All examples together must reach every key in every form it may have.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/runtime/config_reader.h"

namespace kvlab {

class Registry;
struct MapSchema;

/// A model for examples, as the value of a key `model`, and of random weights that nobody draws.
inline constexpr const char* kExampleModel =
    "{name: example, source: {type: random, seed: 0}, shape: {vocabulary: 8, context: 64, "
    "d_model: 8, layers: 1, n_heads: 2, n_kv_heads: 2, d_mlp: 8, norm: rmsnorm, mlp: swiglu, "
    "position: none}}";

enum class ValueType { text, path, boolean, integer, number, choice, component, list, map };

/// One form that a value may have.
struct ValueForm {
  ValueType type = ValueType::text;
  IntegerRange integers = {};
  NumberRange numbers = {};
  std::vector<std::string> choices = {};
  std::string component = {};                     ///< "cache", "attention", "position"; or empty
  std::shared_ptr<const ValueForm> item = {};     ///< of a list
  std::shared_ptr<MapSchema> map = {};  ///< of a map; shared with the reader that fills it
};

struct KeySchema {
  std::string name;
  std::vector<ValueForm> forms;  ///< empty: any value
  bool raw = false;              ///< the reader also looks at the value as it stands
  int needed = 0;                ///< how many readers could not do without it
  std::optional<std::string> fallback;  ///< as YAML
};

struct MapSchema {
  std::string part;  ///< the name of a part that experiment kinds share; else empty
  std::vector<KeySchema> keys;  ///< in the order of asking
  int visits = 0;               ///< readers over such a map

  const KeySchema* find(std::string_view key) const;
  KeySchema& at(std::string_view key);
  bool is_required(const KeySchema& key) const { return visits > 0 && key.needed == visits; }
  std::vector<std::string> names() const;
};

/// All keys of experiment files.
struct ConfigSchema {
  std::map<std::string, MapSchema> parts;  ///< model, arm, runtime, measure, limits, ...
  MapSchema head;                          ///< keys of every experiment
  std::map<std::string, MapSchema> kinds;  ///< head and own keys, of the kinds that give examples

  /// The shared part that `map` is one of, else `map`.
  const MapSchema& resolve(const MapSchema& map) const;
};

/// Reads every example in the registry, or only those of one kind. Throws UserError naming the
/// example where a kind refuses its own.
ConfigSchema record_config_schema(const Registry& registry, std::string_view only_kind = "");

/// Notes what readers of this thread are asked, from the first reader that is built. One at a time.
/// With `examples` files that are named need not exist.
class SchemaRecording {
 public:
  SchemaRecording(std::shared_ptr<MapSchema> root, bool examples);
  ~SchemaRecording();
  SchemaRecording(const SchemaRecording&) = delete;
  SchemaRecording& operator=(const SchemaRecording&) = delete;

  static SchemaRecording* current();
  bool examples() const { return examples_; }

  /// Called by readers: gives the new reader over `node` its schema, or the root's.
  std::shared_ptr<MapSchema> attach(const ConfigNode* node, std::shared_ptr<MapSchema> schema);
  std::shared_ptr<MapSchema> find(const ConfigNode* node) const;

 private:
  std::shared_ptr<MapSchema> root_;
  bool examples_;
  std::unordered_map<const ConfigNode*, std::shared_ptr<MapSchema>> schemas_;
};

/// Says that the map under `reader` is the shared part `name`. Nothing without a recording.
void note_part(const ConfigReader& reader, const std::string& name);

/// Throws as a reader does where `node` is nothing that `form` allows; the inside of maps is not
/// looked at.
void check_form(const ConfigNode& node, const ValueForm& form);

/// Throws the error of a key that is not among the `known` ones. Requires: `map` holds it.
[[noreturn]] void fail_unknown(const ConfigNode& map, std::string_view key,
                               const std::vector<std::string>& known);

}  // namespace kvlab

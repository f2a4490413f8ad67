// The table of everything that can be named in a config. An object that is passed in: there is no
// singleton and no registration by static initialisers.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvlab/attention/attention.h"
#include "kvlab/cache/kv_cache.h"
#include "kvlab/core/component.h"
#include "kvlab/position/position_encoding.h"

namespace kvlab {

class Experiment;
struct ExperimentConfig;
class Registry;

/// What a cache's functions are given: validated options, the shape, and the registry for caches
/// that wrap another.
struct CacheRequest {
  const Options& options;
  const CacheShape& shape;
  const Registry& registry;
};

/// Traits and estimate are functions of options and shape and are asked before anything is
/// allocated. Both may throw UserError where options and shape contradict each other.
struct CacheEntry {
  ComponentInfo info;
  std::string bytes_formula;  ///< of reserved bytes, for the catalogue
  std::function<CacheTraits(const CacheRequest&)> traits;
  /// Bytes of the cache alone after the sequence, live and peak; equals the arena's count exactly.
  /// It shares no size code with the cache. Throws CapacityError where the options leave no room
  /// for the sequence.
  std::function<MemoryUsage(const CacheRequest&, const StepSequence&)> estimate;
  std::function<std::unique_ptr<KVCache>(const CacheRequest&, StorageArena&)> create;
  /// What the cache stores for one token whose keys (or values) are `heads` [G*D], in double
  /// precision; [stored heads * D]. No function: what it was given. For caches that pool or code,
  /// so that conformance can follow them. An empty result says that nobody can: a wrapper around
  /// such a cache gives it.
  std::function<std::vector<double>(const CacheRequest&, std::span<const double> heads,
                                    int64_t dim)>
      stored_entry;
  std::string origin;  ///< set by the registry
};

struct AttentionEntry {
  ComponentInfo info;
  std::function<AttentionTraits(const Options&)> traits;
  std::function<std::unique_ptr<Attention>(const Options&)> create;
  std::string origin;
};

struct PositionEntry {
  ComponentInfo info;
  /// Asked before weights are there: `shape.table` is undefined.
  std::function<PositionTraits(const Options&, const PositionShape&)> traits;
  std::function<std::unique_ptr<PositionEncoding>(const Options&, const PositionShape&)> create;
  std::string origin;
};

/// An experiment kind: `create` reads and checks the kind's own keys and throws UserError.
struct ExperimentEntry {
  ComponentInfo info;
  std::function<std::unique_ptr<Experiment>(ExperimentConfig&, const Registry&)> create;
  std::string origin;
};

/// A plugin library that was loaded.
struct LoadedPlugin {
  std::string name, version;
  std::string file;  ///< absolute path
  std::string hash;  ///< of the file's content when it was loaded
};

class Registry {
 public:
  /// `origin` is what messages name for entries added from now on: "built in", or a file.
  void begin_origin(std::string origin) { origin_ = std::move(origin); }

  /// Throws PluginError naming both origins where the name is taken, or where a function is
  /// missing.
  void add(CacheEntry entry);
  void add(AttentionEntry entry);
  void add(PositionEntry entry);
  void add(ExperimentEntry entry);

  /// Moves every entry of `staged` here, with its origin, or none: throws PluginError where a name
  /// is taken.
  void commit(Registry&& staged);

  /// Notes a plugin library whose entries are here.
  void add_plugin(LoadedPlugin plugin) { plugins_.push_back(std::move(plugin)); }
  const std::vector<LoadedPlugin>& plugins() const { return plugins_; }

  const std::vector<CacheEntry>& caches() const { return caches_; }
  const std::vector<AttentionEntry>& attentions() const { return attentions_; }
  const std::vector<PositionEntry>& positions() const { return positions_; }
  const std::vector<ExperimentEntry>& experiments() const { return experiments_; }

  /// Throw MissingError with near matches and the list. `where` stands before the message.
  const CacheEntry& cache(std::string_view name, std::string_view where = "") const;
  const AttentionEntry& attention(std::string_view name, std::string_view where = "") const;
  const PositionEntry& position(std::string_view name, std::string_view where = "") const;
  const ExperimentEntry& experiment(std::string_view name, std::string_view where = "") const;

  // From a spec, with its options checked. `..._options` alone checks name and options.
  Options cache_options(const ComponentSpec& spec) const;
  Options attention_options(const ComponentSpec& spec) const;
  Options position_options(const ComponentSpec& spec) const;
  CacheTraits cache_traits(const ComponentSpec& spec, const CacheShape& shape) const;
  MemoryUsage estimate_cache(const ComponentSpec& spec, const CacheShape& shape,
                             const StepSequence& sequence) const;
  std::unique_ptr<KVCache> make_cache(const ComponentSpec& spec, const CacheShape& shape,
                                      StorageArena& arena) const;
  AttentionTraits attention_traits(const ComponentSpec& spec) const;
  std::unique_ptr<Attention> make_attention(const ComponentSpec& spec) const;
  PositionTraits position_traits(const ComponentSpec& spec, const PositionShape& shape) const;
  std::unique_ptr<PositionEncoding> make_position(const ComponentSpec& spec,
                                                  const PositionShape& shape) const;

 private:
  std::string origin_ = "built in";
  std::vector<CacheEntry> caches_;
  std::vector<AttentionEntry> attentions_;
  std::vector<PositionEntry> positions_;
  std::vector<ExperimentEntry> experiments_;
  std::vector<LoadedPlugin> plugins_;
};

/// Adds every plugin of this build (generated from the plugin folders).
void register_builtin_plugins(Registry& registry);

/// Adds every experiment kind of this build (generated from the experiment folders).
void register_builtin_experiments(Registry& registry);

}  // namespace kvlab

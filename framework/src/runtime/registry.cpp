#include "kvlab/runtime/registry.h"

#include <iterator>
#include <type_traits>

#include "kvlab/core/error.h"

namespace kvlab {

namespace {

template <typename Entry>
void add_entry(std::vector<Entry>& table, Entry entry, const std::string& origin,
               const char* kind) {
  if (entry.info.name.empty()) {
    throw PluginError(detail::concat("[registry.add] a ", kind, " from ", origin, " has no name"));
  }
  for (const Entry& other : table) {
    if (other.info.name == entry.info.name) {
      throw PluginError(detail::concat("[registry.add] ", kind, " '", entry.info.name, "' from ",
                                       origin, " is taken by ", other.origin,
                                       "; give one of them another name"));
    }
  }
  if (!entry.create) {
    throw PluginError(detail::concat("[registry.add] ", kind, " '", entry.info.name, "' from ",
                                     origin, " has no create function"));
  }
  entry.origin = origin;
  table.push_back(std::move(entry));
}

template <typename Entry>
void check_free(const std::vector<Entry>& table, const std::vector<Entry>& staged,
                const char* kind) {
  for (const Entry& entry : staged) {
    for (const Entry& other : table) {
      if (other.info.name != entry.info.name) continue;
      throw PluginError(detail::concat("[registry.commit] ", kind, " '", entry.info.name,
                                       "' from ", entry.origin, " is taken by ", other.origin,
                                       "; give one of them another name"));
    }
  }
}

template <typename Entry>
void make_room(std::vector<Entry>& table, const std::vector<Entry>& staged) {
  table.reserve(table.size() + staged.size());
}

// Throws nothing where there is room.
template <typename Entry>
void append(std::vector<Entry>& table, std::vector<Entry>& staged) {
  static_assert(std::is_nothrow_move_constructible_v<Entry>);
  table.insert(table.end(), std::make_move_iterator(staged.begin()),
               std::make_move_iterator(staged.end()));
  staged.clear();
}

template <typename Entry>
void need_traits(const Entry& entry, const std::string& origin, const char* kind) {
  if (entry.traits) return;
  throw PluginError(detail::concat("[registry.add] ", kind, " '", entry.info.name, "' from ",
                                   origin, " has no traits function"));
}

template <typename Entry>
const Entry& find_entry(const std::vector<Entry>& table, std::string_view name,
                        std::string_view where, const char* kind) {
  std::vector<std::string> known;
  for (const Entry& entry : table) {
    if (entry.info.name == name) return entry;
    known.push_back(entry.info.name);
  }
  throw MissingError(detail::concat(where, where.empty() ? "" : ": ", "[registry.", kind, "] no ",
                                    kind, " is named '", name, "'.", suggestion(name, known)));
}

}  // namespace

void Registry::add(CacheEntry entry) {
  if (!entry.estimate) {
    throw PluginError(detail::concat("[registry.add] cache '", entry.info.name, "' from ", origin_,
                                     " has no estimate function"));
  }
  need_traits(entry, origin_, "cache");
  add_entry(caches_, std::move(entry), origin_, "cache");
}

void Registry::add(AttentionEntry entry) {
  need_traits(entry, origin_, "attention");
  add_entry(attentions_, std::move(entry), origin_, "attention");
}

void Registry::add(PositionEntry entry) {
  need_traits(entry, origin_, "position");
  add_entry(positions_, std::move(entry), origin_, "position");
}

void Registry::add(ExperimentEntry entry) {
  add_entry(experiments_, std::move(entry), origin_, "experiment");
}

void Registry::commit(Registry&& staged) {
  check_free(caches_, staged.caches_, "cache");
  check_free(attentions_, staged.attentions_, "attention");
  check_free(positions_, staged.positions_, "position");
  check_free(experiments_, staged.experiments_, "experiment");
  make_room(caches_, staged.caches_);
  make_room(attentions_, staged.attentions_);
  make_room(positions_, staged.positions_);
  make_room(experiments_, staged.experiments_);
  make_room(plugins_, staged.plugins_);
  append(caches_, staged.caches_);
  append(attentions_, staged.attentions_);
  append(positions_, staged.positions_);
  append(experiments_, staged.experiments_);
  append(plugins_, staged.plugins_);
}

const CacheEntry& Registry::cache(std::string_view name, std::string_view where) const {
  return find_entry(caches_, name, where, "cache");
}

const AttentionEntry& Registry::attention(std::string_view name, std::string_view where) const {
  return find_entry(attentions_, name, where, "attention");
}

const PositionEntry& Registry::position(std::string_view name, std::string_view where) const {
  return find_entry(positions_, name, where, "position");
}

const ExperimentEntry& Registry::experiment(std::string_view name, std::string_view where) const {
  return find_entry(experiments_, name, where, "experiment");
}

Options Registry::cache_options(const ComponentSpec& spec) const {
  return resolve_options(cache(spec.type, spec.where).info, spec, "cache");
}

Options Registry::attention_options(const ComponentSpec& spec) const {
  return resolve_options(attention(spec.type, spec.where).info, spec, "attention");
}

Options Registry::position_options(const ComponentSpec& spec) const {
  return resolve_options(position(spec.type, spec.where).info, spec, "position");
}

CacheTraits Registry::cache_traits(const ComponentSpec& spec, const CacheShape& shape) const {
  const Options options = cache_options(spec);
  return cache(spec.type).traits({options, shape, *this});
}

MemoryUsage Registry::estimate_cache(const ComponentSpec& spec, const CacheShape& shape,
                                     const StepSequence& sequence) const {
  const Options options = cache_options(spec);
  return cache(spec.type).estimate({options, shape, *this}, sequence);
}

std::unique_ptr<KVCache> Registry::make_cache(const ComponentSpec& spec, const CacheShape& shape,
                                              StorageArena& arena) const {
  const Options options = cache_options(spec);
  return cache(spec.type).create({options, shape, *this}, arena);
}

AttentionTraits Registry::attention_traits(const ComponentSpec& spec) const {
  const Options options = attention_options(spec);
  return attention(spec.type).traits(options);
}

std::unique_ptr<Attention> Registry::make_attention(const ComponentSpec& spec) const {
  const Options options = attention_options(spec);
  return attention(spec.type).create(options);
}

PositionTraits Registry::position_traits(const ComponentSpec& spec,
                                         const PositionShape& shape) const {
  const Options options = position_options(spec);
  return position(spec.type).traits(options, shape);
}

std::unique_ptr<PositionEncoding> Registry::make_position(const ComponentSpec& spec,
                                                          const PositionShape& shape) const {
  const Options options = position_options(spec);
  return position(spec.type).create(options, shape);
}

}  // namespace kvlab

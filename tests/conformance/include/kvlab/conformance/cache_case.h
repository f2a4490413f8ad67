// Which caches, options and shapes the kit runs over.
#pragma once

#include <string>
#include <vector>

#include "kvlab/cache/cache_shape.h"
#include "kvlab/conformance/cache_oracle.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

/// One cache with one set of options for one shape of a model.
struct CacheCase {
  std::string name;    ///< cache and options, dtype, KV heads: "paged_block_size_5_bf16_G3"
  std::string plugin;  ///< name in the registry
  std::string spec;    ///< as on a command line
  CacheShape shape;    ///< the model's
  bool first_of_options = false;  ///< one case per option set, for the long tests
};

/// Option sets that a plugin refuses for a shape; not tested further, but counted.
struct RefusedCase {
  CacheCase chosen;
  std::string reason;
};

struct CacheCases {
  std::vector<CacheCase> cases;
  std::vector<RefusedCase> refused;
  std::vector<std::string> useless;  ///< specs that were refused for every shape
};

/// The caches in `plugins` (empty: all of the registry), each with its defaults and with every
/// example it names, times {f32, bf16} times 6, 3, 2 and 1 KV heads of 6 query heads: 2 layers, 4
/// rows, D = 7 (10 where keys are kept before position, since a rotation needs pairs; 5 for values
/// where G is odd), texts of 23 tokens. Once more per option set with a model that has a sliding
/// window of 4 tokens: "..._f32_G3_W4". Where the traits narrow the mask or bound the storage, three
/// more that declare steps of at most 3 tokens, "..._f32_G3_W4_C3": only there do texts outgrow
/// storage that follows the longest step.
CacheCases cache_cases(const Registry& registry, const std::vector<std::string>& plugins = {});

/// "block_size=5,x=y" -> "_block_size_5_x_y": for names of tests.
std::string option_label(const std::string& options);

/// Whether the case declares steps that are shorter than its texts.
bool has_short_steps(const CacheCase& chosen);

/// What the cache of a case promises.
CacheTraits traits_of(const Registry& registry, const CacheCase& chosen);

/// What the cache of a case stores for a token, from its registry entry; empty: what it is given.
/// Owns everything but the registry, which must outlive it.
StoredEntry stored_entry_of(const Registry& registry, const CacheCase& chosen);

/// Lengths at which something may happen: around 0, the longest text, and one and two times each
/// integer option of the cache (blocks, capacities, windows), nested ones included. Ascending.
std::vector<int64_t> edge_lengths(const Registry& registry, const CacheCase& chosen);

/// A small shape for a plugin's own tests: 2 layers, 3 rows, 6 query and 3 KV heads, D 7 and 5, 40
/// tokens.
CacheShape small_shape();

}  // namespace kvlab::conformance

// What the arena counts must be what the allocator gives: reports take their bytes from it.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/memory_estimate.h"
#include "kvlab/core/error.h"

namespace kvlab::conformance {
namespace {

CacheShape large_shape() {
  CacheShape shape;
  shape.layers = 3;
  shape.query_heads = shape.kv_heads = 4;
  shape.rows = 2;
  shape.key_dim = shape.value_dim = 64;
  shape.max_length = 300;
  shape.max_step_tokens = 300;
  return shape;
}

TEST(ArenaAgainstMalloc, CountsWhatTheAllocatorGaveUpToAlignment) {
  if (!allocator_bytes()) return;  // a sanitizer brings an allocator that does not say
  Registry registry;
  register_builtin_plugins(registry);
  const CacheShape shape = large_shape();
  for (const CacheEntry& entry : registry.caches()) {
    for (size_t example = 0; example <= entry.info.examples.size(); ++example) {
      const std::string spec =
          entry.info.name + (example == 0 ? "" : ":" + entry.info.examples[example - 1]);
      // The first run fills free lists and caches of the library itself.
      for (const bool warm : {true, false}) {
        StorageArena arena;
        const int64_t before = *allocator_bytes();
        std::unique_ptr<KVCache> cache;
        try {
          cache = registry.make_cache(parse_component_spec(spec), shape, arena);
        } catch (const UserError&) {
          break;  // an example that this shape refuses
        }
        feed(*cache, shape, {{0, 120}, {1, 280}});
        for (int i = 0; i < 10; ++i) feed(*cache, shape, {{0, 1}, {1, 1}});
        const int64_t grown = *allocator_bytes() - before;
        const int64_t counted = arena.usage().reserved();
        if (warm) continue;
        // Per allocation 64 bytes of alignment, the chunk's header and a tensor handle, and what
        // the cache holds outside the arena: a vector of handles and a view.
        const int64_t slack = arena.allocations() * 512 + 16 * 1024;
        EXPECT_GE(grown, counted - 1024) << spec;
        EXPECT_LE(grown, counted + slack) << spec;
      }
    }
  }
}

}  // namespace
}  // namespace kvlab::conformance

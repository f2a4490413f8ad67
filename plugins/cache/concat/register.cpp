#include <vector>

#include "concat_cache.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

namespace {

// Walks the steps: while a layer's row grows, its old and new tensor exist at once.
MemoryUsage estimate(const CacheRequest& request, const StepSequence& sequence) {
  const CacheShape& shape = request.shape;
  const int64_t token_bytes = shape.token_bytes_per_layer();
  std::vector<int64_t> lengths(static_cast<size_t>(shape.rows), 0);
  MemoryUsage usage;
  for (const auto& step : sequence.steps) {
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      for (const StepSequence::Item& item : step) {
        const int64_t length = lengths[static_cast<size_t>(item.row)];
        if (item.end == length) continue;
        usage.add(MemoryKind::storage, item.end * token_bytes);
        usage.add(MemoryKind::storage, -length * token_bytes);
      }
    }
    for (const StepSequence::Item& item : step) lengths[static_cast<size_t>(item.row)] = item.end;
  }
  return usage;
}

}  // namespace

void register_cache_concat(Registry& registry) {
  CacheEntry entry;
  entry.info = {"concat",
                "One growing tensor per row and layer, concatenated in every step: as long as the "
                "text, but all of it is copied again for each token.",
                "", {}};
  entry.bytes_formula =
      "2 * layers * kv_heads * head_dim * length * bytes per row; while a layer grows its old and "
      "new tensor exist at once";
  entry.traits = [](const CacheRequest&) { return concat_traits(); };
  entry.estimate = estimate;
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<ConcatCache>(request.shape, arena);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

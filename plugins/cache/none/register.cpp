#include "kvlab/runtime/registry.h"
#include "none_cache.h"

namespace kvlab::plugins {

namespace {

// Scratch of the largest step: every layer's K and V of all tokens fed, which is the whole text.
MemoryUsage estimate(const CacheRequest& request, const StepSequence& sequence) {
  MemoryUsage usage;
  for (const auto& step : sequence.steps) {
    int64_t tokens = 0;
    for (const StepSequence::Item& item : step) tokens += item.end;
    const int64_t bytes = tokens * request.shape.token_bytes_per_layer() * request.shape.layers;
    usage.add(MemoryKind::scratch, bytes);
    usage.add(MemoryKind::scratch, -bytes);
  }
  return usage;
}

}  // namespace

void register_cache_none(Registry& registry) {
  CacheEntry entry;
  entry.info = {"none", "Keeps nothing and recomputes the whole text in every step: the baseline.",
                "", {}};
  entry.bytes_formula = "0; scratch while a step runs: 2 * layers * kv_heads * head_dim * tokens fed";
  entry.traits = [](const CacheRequest&) { return none_traits(); };
  entry.estimate = estimate;
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<NoneCache>(request.shape, arena);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

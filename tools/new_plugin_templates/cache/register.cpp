#include <vector>

#include "@NAME@_cache.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

namespace {

// The cache's bytes after the given steps, from the numbers alone: tests compare them with what was
// really allocated, so the cache's own code must not be called here.
MemoryUsage estimate(const CacheRequest& request, const StepSequence& sequence) {
  const CacheShape& shape = request.shape;
  std::vector<bool> fed(static_cast<size_t>(shape.rows), false);
  MemoryUsage usage;
  for (const auto& step : sequence.steps) {
    for (const StepSequence::Item& item : step) {
      const auto row = static_cast<size_t>(item.row);
      if (fed[row] || item.end == 0) continue;
      fed[row] = true;
      usage.add(MemoryKind::storage,
                shape.layers * shape.max_length * shape.token_bytes_per_layer());
    }
  }
  return usage;
}

}  // namespace

void register_cache_@NAME@(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "@NAME@";
  entry.info.summary = "What is kept of a text, and what is special about it, in one line.";
  entry.info.citation = "";  // authors, title, year, arXiv number; empty where there is none
  // Options with default, range, unit and text: entry.info.options, see ring/register.cpp. Option
  // texts that the kit should test beside the defaults: entry.info.examples = {"size=5"}.
  entry.bytes_formula = "2 * layers * kv_heads * head_dim * bytes * longest text, per row in use";
  entry.traits = [](const CacheRequest&) { return @NAME@_traits(); };
  entry.estimate = estimate;
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<@CLASS@Cache>(request.shape, arena);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

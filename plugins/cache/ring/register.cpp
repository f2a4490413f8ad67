#include <algorithm>

#include "kvlab/runtime/registry.h"
#include "ring_cache.h"

namespace kvlab::plugins {

namespace {

MemoryUsage estimate(const CacheRequest& request, const StepSequence&) {
  const CacheShape& shape = request.shape;
  int64_t window = request.options.integer("window");
  if (shape.window > 0 && shape.window < window) window = shape.window;
  const int64_t entries = std::min(shape.max_length, window - 1 + shape.max_step_tokens);
  MemoryUsage usage;
  usage.add(MemoryKind::storage,
            shape.rows * shape.layers * entries * shape.token_bytes_per_layer());
  usage.add(MemoryKind::metadata, shape.rows * 8);
  return usage;
}

}  // namespace

void register_cache_ring(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "ring";
  entry.info.summary = "The last `window` tokens in a ring of slots: bounded memory, exact for a "
                       "model with that sliding window.";
  entry.info.citation = "Jiang et al., Mistral 7B, 2023, arXiv:2310.06825 (rolling buffer); "
                        "Beltagy et al., Longformer, 2020, arXiv:2004.05150 (sliding window)";
  OptionSpec window;
  window.name = "window";
  window.default_text = "256";
  window.unit = "tokens";
  window.minimum = 1;
  window.maximum = 2147483647;
  window.doc = "Newest tokens a query sees, itself included.";
  entry.info.options = {window};
  entry.info.examples = {"window=1", "window=4", "window=8"};
  entry.bytes_formula = "2 * layers * kv_heads * head_dim * bytes * min(longest text, window - 1 + "
                        "prefill chunk) + 8, per row";
  entry.traits = [](const CacheRequest& request) {
    return ring_traits(request.options.integer("window"), request.shape);
  };
  entry.estimate = estimate;
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<RingCache>(request.options.integer("window"), request.shape, arena);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

#include <algorithm>

#include "kvlab/runtime/registry.h"
#include "sinks_cache.h"

namespace kvlab::plugins {

namespace {

SinksOptions read_options(const Options& options) {
  return {options.integer("sinks"), options.integer("window"),
          options.text("positions") == "cache" ? SinkPositions::cache : SinkPositions::text};
}

MemoryUsage estimate(const CacheRequest& request, const StepSequence&) {
  const CacheShape& shape = request.shape;
  const int64_t sinks = request.options.integer("sinks");
  int64_t window = request.options.integer("window");
  if (shape.window > 0 && shape.window < window) window = shape.window;
  const int64_t entries = std::min(shape.max_length, sinks + window - 1 + shape.max_step_tokens);
  MemoryUsage usage;
  usage.add(MemoryKind::storage,
            shape.rows * shape.layers * entries * shape.token_bytes_per_layer());
  usage.add(MemoryKind::metadata, shape.rows * 8);
  return usage;
}

}  // namespace

void register_cache_sinks(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "sinks";
  entry.info.summary = "The first `sinks` tokens and the last `window`: bounded memory for a text "
                       "without end.";
  entry.info.citation = "Xiao et al., Efficient Streaming Language Models with Attention Sinks, "
                        "2023, arXiv:2309.17453";
  OptionSpec sinks;
  sinks.name = "sinks";
  sinks.default_text = "4";
  sinks.unit = "tokens";
  sinks.minimum = 0;
  sinks.maximum = 2147483647;
  sinks.doc = "First tokens of the text, kept for ever.";
  OptionSpec window;
  window.name = "window";
  window.default_text = "252";
  window.unit = "tokens";
  window.minimum = 1;
  window.maximum = 2147483647;
  window.doc = "Newest tokens a query sees beside the sinks, itself included.";
  OptionSpec positions;
  positions.name = "positions";
  positions.type = OptionType::text;
  positions.default_text = "text";
  positions.choices = {"text", "cache"};
  positions.doc = "text: keys keep their place in the text; cache: rotary positions count what is "
                  "stored, so that they stay small. Needs positions that can be applied later.";
  entry.info.options = {sinks, window, positions};
  entry.info.examples = {"sinks=2,window=3", "sinks=0,window=1", "sinks=1,window=4,positions=cache"};
  entry.bytes_formula = "2 * layers * kv_heads * head_dim * bytes * min(longest text, sinks + window "
                        "- 1 + prefill chunk) + 8, per row";
  entry.traits = [](const CacheRequest& request) {
    return sinks_traits(read_options(request.options), request.shape);
  };
  entry.estimate = estimate;
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<SinksCache>(read_options(request.options), request.shape, arena);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

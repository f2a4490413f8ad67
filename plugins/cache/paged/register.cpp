#include <algorithm>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"
#include "paged_cache.h"

namespace kvlab::plugins {

namespace {

PagedOptions read_options(const Options& options) {
  return {options.integer("block_size"), options.integer("max_blocks")};
}

MemoryUsage estimate(const CacheRequest& request, const StepSequence& sequence) {
  const CacheShape& shape = request.shape;
  const PagedOptions options = read_options(request.options);
  const auto blocks = [&](int64_t length) {
    return length / options.block_size + (length % options.block_size != 0 ? 1 : 0);
  };
  const int64_t per_row = blocks(shape.max_length);
  const int64_t usable = shape.rows * per_row;
  const int64_t most = options.max_blocks > 0 ? std::min(options.max_blocks, usable) : usable;
  MemoryUsage usage;
  // Block tables and their lengths; per block a reference count, a place in the free list, a
  // tensor handle and its address.
  usage.add(MemoryKind::metadata, shape.rows * (per_row + 1) * 4 + most * (4 + 4 + 8 + 8));
  std::vector<int64_t> held(static_cast<size_t>(shape.rows), 0);
  int64_t opened = 0;
  for (const auto& step : sequence.steps) {
    for (const StepSequence::Item& item : step) {
      held[static_cast<size_t>(item.row)] = blocks(item.end);
    }
    int64_t total = 0;
    for (const int64_t count : held) total += count;
    if (total > most) {
      throw CapacityError(detail::concat("[cache.paged] ", most, " blocks of ", options.block_size,
                                         " tokens do not hold the texts, which need ", total,
                                         ". Raise max_blocks"));
    }
    opened = std::max(opened, total);
  }
  usage.add(MemoryKind::storage, opened * options.block_size * shape.layers *
                                     shape.token_bytes_per_layer());
  return usage;
}

}  // namespace

void register_cache_paged(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "paged";
  entry.info.summary = "Blocks from one pool, found through a table per row: memory follows the "
                       "text, forked rows share blocks.";
  entry.info.citation = "Kwon et al., Efficient Memory Management for Large Language Model Serving "
                        "with PagedAttention, SOSP 2023, arXiv:2309.06180";
  OptionSpec block_size;
  block_size.name = "block_size";
  block_size.default_text = "64";
  block_size.unit = "tokens";
  block_size.minimum = 1;
  block_size.maximum = 65536;
  block_size.doc = "Tokens per block. Small blocks waste less, large ones are read faster.";
  OptionSpec max_blocks;
  max_blocks.name = "max_blocks";
  max_blocks.default_text = "0";
  max_blocks.unit = "blocks";
  max_blocks.minimum = 0;
  max_blocks.maximum = 2147483647;
  max_blocks.doc = "Most blocks the pool may open; 0 = enough for every row at the longest text.";
  entry.info.options = {block_size, max_blocks};
  entry.info.examples = {"block_size=1", "block_size=3", "block_size=5", "block_size=16"};
  entry.bytes_formula =
      "2 * layers * kv_heads * head_dim * block_size * bytes * sum over rows of "
      "ceil(length / block_size), plus tables";
  entry.traits = [](const CacheRequest&) { return paged_traits(); };
  entry.estimate = estimate;
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<PagedCache>(read_options(request.options), request.shape, arena);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

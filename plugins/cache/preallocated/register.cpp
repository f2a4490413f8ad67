#include <algorithm>
#include <vector>

#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"
#include "preallocated_cache.h"

namespace kvlab::plugins {

namespace {

PreallocatedOptions read_options(const Options& options) {
  PreallocatedOptions read;
  read.growth = options.text("growth") == "doubling" ? Growth::doubling : Growth::fixed;
  read.capacity = options.integer("capacity");
  if (read.growth == Growth::doubling && read.capacity == 0) read.capacity = 16;
  return read;
}

MemoryUsage estimate(const CacheRequest& request, const StepSequence& sequence) {
  const CacheShape& shape = request.shape;
  const PreallocatedOptions options = read_options(request.options);
  const int64_t token_bytes = shape.token_bytes_per_layer();
  MemoryUsage usage;
  int64_t first = options.capacity == 0 ? shape.max_length : options.capacity;
  first = std::min(first, shape.max_length);
  usage.add(MemoryKind::storage, shape.rows * shape.layers * first * token_bytes);
  if (options.growth == Growth::fixed) {
    for (const auto& step : sequence.steps) {
      for (const StepSequence::Item& item : step) {
        if (item.end <= first) continue;
        throw CapacityError(detail::concat("[cache.preallocated] a capacity of ", first,
                                           " does not hold ", item.end,
                                           " tokens. Raise capacity, or use growth: doubling"));
      }
    }
    return usage;
  }
  std::vector<int64_t> sizes(static_cast<size_t>(shape.rows), first);
  for (const auto& step : sequence.steps) {
    for (const StepSequence::Item& item : step) {
      int64_t& size = sizes[static_cast<size_t>(item.row)];
      int64_t wanted = size;
      while (wanted < item.end) wanted *= 2;
      wanted = std::min(wanted, shape.max_length);
      if (wanted == size) continue;
      for (int64_t layer = 0; layer < shape.layers; ++layer) {
        usage.add(MemoryKind::storage, wanted * token_bytes);
        usage.add(MemoryKind::storage, -size * token_bytes);
      }
      size = wanted;
    }
  }
  return usage;
}

}  // namespace

void register_cache_preallocated(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "preallocated";
  entry.info.summary = "One buffer per row and layer, written in place: no copies, room for the "
                       "longest text from the start.";
  OptionSpec growth;
  growth.name = "growth";
  growth.type = OptionType::text;
  growth.default_text = "fixed";
  growth.choices = {"fixed", "doubling"};
  growth.doc = "fixed: allocated once, CapacityError beyond; doubling: doubles when full.";
  OptionSpec capacity;
  capacity.name = "capacity";
  capacity.default_text = "0";
  capacity.unit = "tokens";
  capacity.minimum = 0;
  capacity.doc = "Entries per row: the size (fixed; 0 = the longest text of the run) or the first "
                 "size (doubling; 0 = 16).";
  entry.info.options = {growth, capacity};
  entry.info.examples = {"growth=doubling", "growth=doubling,capacity=1",
                         "growth=doubling,capacity=3"};
  entry.bytes_formula = "2 * layers * kv_heads * head_dim * capacity * bytes per row";
  entry.traits = [](const CacheRequest&) { return preallocated_traits(); };
  entry.estimate = estimate;
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<PreallocatedCache>(read_options(request.options), request.shape, arena);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

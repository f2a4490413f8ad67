#include <memory>
#include <vector>

#include "int8_cache.h"
#include "int8_codec.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

namespace {

MemoryUsage estimate(const CacheRequest& request, const StepSequence&) {
  const CacheShape& shape = request.shape;
  const int64_t heads = shape.rows * shape.layers * shape.kv_heads;
  MemoryUsage usage;
  usage.add(MemoryKind::storage, heads * shape.max_length * (shape.key_dim + shape.value_dim));
  usage.add(MemoryKind::metadata, heads * shape.max_length * 2 * 4);
  return usage;
}

std::vector<double> stored_entry(const CacheRequest&, std::span<const double> heads, int64_t dim) {
  const std::vector<float> numbers(heads.begin(), heads.end());
  std::vector<int8_t> codes(numbers.size());
  std::vector<double> stored;
  for (size_t head = 0; head < numbers.size(); head += static_cast<size_t>(dim)) {
    const float scale = encode_int8(numbers.data() + head, dim, codes.data() + head);
    for (size_t i = head; i < head + static_cast<size_t>(dim); ++i) {
      stored.push_back(static_cast<float>(codes[i]) * scale);
    }
  }
  return stored;
}

}  // namespace

void register_cache_int8(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "int8";
  entry.info.summary = "One buffer per row and layer of 8-bit codes, with a scale per token and "
                       "head: about a quarter of fp32, not exact.";
  entry.bytes_formula =
      "layers * kv_heads * longest text * (2 * head_dim + 8) per row: 8 + 32 / head_dim bits per "
      "number, 8.5 at 64";
  entry.traits = [](const CacheRequest&) { return int8_traits(); };
  entry.estimate = estimate;
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<Int8Cache>(request.shape, arena);
  };
  entry.stored_entry = stored_entry;
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

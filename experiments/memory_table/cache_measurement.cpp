#include "cache_measurement.h"

#include <ATen/ops/zeros.h>

#include <vector>

#include "kvlab/cache/kv_cache.h"

namespace kvlab::experiments::memory_table_kind {

StepSequence fill_sequence(const CacheShape& shape, int64_t length, const CacheTraits& traits) {
  const std::vector<int64_t> lengths(static_cast<size_t>(shape.rows), length);
  // One generated token is never fed, so the sequence is the fill alone.
  return StepSequence::prefill_then_decode(lengths, 1, traits.keeps_nothing ? 0 : kFillStep);
}

CacheMeasurement measure_cache(const Registry& registry, const ComponentSpec& cache,
                               const CacheShape& shape, int64_t length) {
  StorageArena arena;
  const std::unique_ptr<KVCache> built = registry.make_cache(cache, shape, arena);
  StepPlan plan;
  std::vector<int32_t> tokens;
  for (const auto& step : fill_sequence(shape, length, built->traits()).steps) {
    plan.clear();
    for (const StepSequence::Item& item : step) {
      RowSlice slice;
      slice.row = item.row;
      slice.first_position = built->length(item.row);
      slice.count = item.end - slice.first_position;
      slice.prompt_left = length - item.end;
      tokens.assign(static_cast<size_t>(slice.count), 0);
      plan.add(slice, tokens);
    }
    const at::Tensor keys =
        at::zeros({plan.num_tokens(), shape.kv_heads, shape.key_dim}, shape.dtype);
    const at::Tensor values =
        at::zeros({plan.num_tokens(), shape.kv_heads, shape.value_dim}, shape.dtype);
    built->begin_step(plan);
    try {
      for (int64_t layer = 0; layer < shape.layers; ++layer) {
        built->append(static_cast<int>(layer), keys, values);
      }
    } catch (...) {
      built->abort_step();
      throw;
    }
    built->end_step();
  }
  CacheMeasurement measured;
  measured.payload = payload_bytes(*built, shape);
  KVView view;
  built->inspect(0, 0, view);
  measured.stored_heads = view.num_kv_heads();
  measured.usage = arena.usage();
  return measured;
}

}  // namespace kvlab::experiments::memory_table_kind

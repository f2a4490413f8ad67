// Fills a cache without any model and counts what it then holds.
#pragma once

#include <cstdint>

#include "kvlab/cache/cache_shape.h"
#include "kvlab/core/component.h"
#include "kvlab/core/storage_arena.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments::memory_table_kind {

/// Tokens of one row in one step while a cache is filled.
inline constexpr int64_t kFillStep = 512;

/// The steps that fill every row of `shape` with `length` tokens.
StepSequence fill_sequence(const CacheShape& shape, int64_t length, const CacheTraits& traits);

struct CacheMeasurement {
  int64_t payload = 0;       ///< counted from what the cache hands out
  int64_t stored_heads = 0;  ///< KV heads it keeps, which may be another number than the model's
  MemoryUsage usage;         ///< of its arena
};

/// Builds the cache and appends `length` zero keys and values to every row and layer. Throws
/// CapacityError or UserError.
CacheMeasurement measure_cache(const Registry& registry, const ComponentSpec& cache,
                               const CacheShape& shape, int64_t length);

}  // namespace kvlab::experiments::memory_table_kind

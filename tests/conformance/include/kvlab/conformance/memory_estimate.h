// Whether a cache's estimate and what the arena counts agree to the byte. They share no size code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kvlab/conformance/cache_case.h"

namespace kvlab::conformance {

/// Runs `scenarios` random shapes and step sequences, options drawn from the cache's OptionSpecs
/// and examples, and throws Failure unless the estimate equals the arena's live and peak bytes of every
/// kind, and throws CapacityError exactly where the cache does. Options that a shape refuses are
/// left out; at least a fifth of the scenarios must remain. Returns how many ran.
int64_t check_memory_estimate(const Registry& registry, const std::string& plugin, uint64_t seed,
                              int64_t scenarios);

/// The same with the options of `chosen` in every scenario.
int64_t check_memory_estimate(const Registry& registry, const CacheCase& chosen, uint64_t seed,
                              int64_t scenarios);

/// Bytes the C library's allocator has handed out; nothing where a sanitizer replaced it.
std::optional<int64_t> allocator_bytes();

}  // namespace kvlab::conformance

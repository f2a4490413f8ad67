// A readable record of what a cache does in a fixed scenario: lengths, bytes, segments, slots.
#pragma once

#include <optional>
#include <string>

#include "kvlab/runtime/registry.h"

namespace kvlab::conformance {

/// Name of the file beside a cache's source that holds its trace.
inline constexpr const char* kTraceFile = "trace.txt";

/// Runs the fixed scenario on the cache with its defaults and with each of its examples that the
/// scenario's shape allows. One line per operation, integers only, the same on every machine.
/// Operations that the traits do not promise are listed as such.
std::string golden_trace(const Registry& registry, const std::string& plugin);

/// The first line that differs, as it was and as it is, and what to run; nothing where both are equal.
std::optional<std::string> trace_difference(const std::string& kept, const std::string& now);

}  // namespace kvlab::conformance

// Filling a cache with the keys and values that another one holds: a long text goes through the
// model once, and not once per arm.
#pragma once

#include <cstdint>
#include <vector>

#include "kvlab/runtime/session.h"

namespace kvlab::experiments::decode_speed_kind {

/// Whether `to` can be given the first `end` entries of every row of `from` in place of feeding the
/// tokens: `from` holds all of them as the model made them, in `to`'s element type, and `to` needs
/// nothing else from a prefill (no attention feedback, no keys before position).
bool can_copy_entries(const Session& from, const Session& to, int64_t end);

/// Appends the entries [first, end) of every row of `from` to `to`, in prefill steps of `to`'s
/// chunk. Requires: `can_copy_entries`, and every row of `to` has length `first`. `texts` are the
/// rows' tokens.
void copy_entries(const Session& from, Session& to, const std::vector<std::vector<int32_t>>& texts,
                  int64_t first, int64_t end);

}  // namespace kvlab::experiments::decode_speed_kind

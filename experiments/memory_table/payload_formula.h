// The arithmetic of a KV cache: how many bytes of keys and values a text has.
#pragma once

#include <cstdint>

namespace kvlab::experiments::memory_table_kind {

/// What the formula depends on.
struct PayloadShape {
  int64_t batch = 1;
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t element_bytes = 0;
  int64_t window = 0;           ///< tokens that the windowed layers hold at most; 0 = no window
  int64_t windowed_layers = 0;  ///< how many of the layers have the window
};

/// Bytes that one more token adds in one row, before any window is full.
int64_t payload_per_token(const PayloadShape& shape);

/// 2 * batch * kv_heads * head_dim * element_bytes * (tokens held, summed over the layers). Throws
/// UserError where the result leaves 64 bits.
int64_t payload_formula(const PayloadShape& shape, int64_t length);

}  // namespace kvlab::experiments::memory_table_kind

#include "payload_formula.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab::experiments::memory_table_kind {

namespace {

int64_t product(int64_t left, int64_t right) {
  int64_t result = 0;
  KVLAB_CHECK(!__builtin_mul_overflow(left, right, &result),
              "[memory_table.formula] the bytes do not fit 64 bits: ", left, " * ", right);
  return result;
}

}  // namespace

int64_t payload_per_token(const PayloadShape& shape) {
  const int64_t per_layer =
      product(product(2 * shape.kv_heads, shape.head_dim), shape.element_bytes);
  return product(shape.layers, per_layer);
}

int64_t payload_formula(const PayloadShape& shape, int64_t length) {
  const int64_t windowed = shape.window == 0 ? 0 : shape.windowed_layers;
  const int64_t held =
      product(shape.layers - windowed, length) + product(windowed, std::min(length, shape.window));
  const int64_t per_layer =
      product(product(2 * shape.kv_heads, shape.head_dim), shape.element_bytes);
  return product(shape.batch, product(held, per_layer));
}

}  // namespace kvlab::experiments::memory_table_kind

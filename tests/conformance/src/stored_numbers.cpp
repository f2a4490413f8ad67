#include "stored_numbers.h"

#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {

float scale_at(const KVPlane& plane, int64_t head, int64_t entry) {
  require(plane.scales != nullptr, "a plane of codes has no scales");
  return plane.scales[head * plane.scale_head_stride + entry * plane.scale_token_stride];
}

double number_at(const KVPlane& plane, int64_t head, int64_t entry, int64_t dim) {
  const int64_t offset = head * plane.head_stride + entry * plane.token_stride + dim;
  if (plane.type == at::kFloat) return static_cast<const float*>(plane.data)[offset];
  if (plane.type == at::kBFloat16) {
    return static_cast<float>(static_cast<const at::BFloat16*>(plane.data)[offset]);
  }
  require(holds_codes(plane), "a plane holds ", c10::toString(plane.type),
          ", which no attention reads");
  const float code = static_cast<const int8_t*>(plane.data)[offset];
  return code * scale_at(plane, head, entry);
}

}  // namespace kvlab::conformance

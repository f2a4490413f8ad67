// The numbers behind a view's planes, decoded where they are kept as codes.
#pragma once

#include "kvlab/cache/kv_view.h"

namespace kvlab::conformance {

/// Element `dim` of (head, entry); `head` counts from the segment's first. Codes are multiplied by
/// their scale in fp32.
double number_at(const KVPlane& plane, int64_t head, int64_t entry, int64_t dim);

/// The scale of the codes of (head, entry). Requires: a plane of codes. Throws Failure where it has
/// no scales.
float scale_at(const KVPlane& plane, int64_t head, int64_t entry);

inline bool holds_codes(const KVPlane& plane) { return plane.type == at::kChar; }

}  // namespace kvlab::conformance

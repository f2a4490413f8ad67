// Vectors of fp32 and how the last, shorter one of a row is read and written, for every instruction
// set. Included by kernels inside foreach_target.
#if defined(KVLAB_ELEMENTWISE_PARTIAL_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef KVLAB_ELEMENTWISE_PARTIAL_INL
#undef KVLAB_ELEMENTWISE_PARTIAL_INL
#else
#define KVLAB_ELEMENTWISE_PARTIAL_INL
#endif

#include <algorithm>
#include <cstdint>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvlab::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;
using Vector = hn::Vec<Floats>;
constexpr Floats kFloats;
constexpr int64_t kLanes = HWY_LANES(float);

// The first kLanes of `count` values, or all of fewer; lanes behind them hold `rest`.
HWY_INLINE Vector load_some(const float* from, int64_t count, float rest = 0) {
  if (HWY_LIKELY(count >= kLanes)) return hn::LoadU(kFloats, from);
  float values[kLanes];
  std::fill(values, values + kLanes, rest);
  std::copy_n(from, count, values);
  return hn::LoadU(kFloats, values);
}

// Stores kLanes values, or `count` where that is fewer.
HWY_INLINE void store_some(Vector vector, float* to, int64_t count) {
  if (HWY_LIKELY(count >= kLanes)) {
    hn::StoreU(vector, kFloats, to);
    return;
  }
  float values[kLanes];
  hn::StoreU(vector, kFloats, values);
  std::copy_n(values, count, to);
}

// NOLINTNEXTLINE(google-readability-namespace-comments)
}  // namespace kvlab::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard

// Addresses of entries far behind the start of storage, computed without allocating it.
#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "kvlab/cache/rowwise_cache.h"

namespace kvlab {
namespace {

// 6 heads of 2^26 slots of 13 elements: the last head begins 4.4 * 10^9 elements behind the first.
constexpr int64_t kSlots = int64_t{1} << 26;
constexpr int64_t kDim = 13;

Run large_run(at::ScalarType type) {
  CacheShape shape;
  shape.kv_heads = 6;
  shape.key_dim = shape.value_dim = kDim;
  shape.dtype = type;
  // Addresses that nobody follows.
  auto* keys = reinterpret_cast<char*>(uintptr_t{1} << 40);
  auto* values = reinterpret_cast<char*>(uintptr_t{1} << 41);
  return Run::over(keys, values, kSlots, shape);
}

TEST(RunAddresses, OffsetsAre64Bit) {
  EXPECT_EQ(large_run(at::kFloat).offset(5, kSlots - 1, kDim), (6 * kSlots - 1) * kDim * 4);
  EXPECT_EQ(large_run(at::kBFloat16).offset(5, kSlots - 1, kDim), (6 * kSlots - 1) * kDim * 2);
}

TEST(RunAddresses, SegmentsReachTheLastEntryOfTheLastHead) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const kvlab::Run run = large_run(type);
    const KVSegment segment = run.segment(kSlots - 2, 2, 0);
    for (const auto& [plane, start] : {std::pair{segment.keys, uintptr_t{1} << 40},
                                       std::pair{segment.values, uintptr_t{1} << 41}}) {
      const int64_t elements = 5 * plane.head_stride + plane.token_stride;
      EXPECT_GT(elements, int64_t{1} << 31);
      const auto size = static_cast<int64_t>(c10::elementSize(type));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(plane.data) +
                    static_cast<uintptr_t>(elements * size),
                start + static_cast<uintptr_t>((6 * kSlots - 1) * kDim * size));
    }
  }
}

}  // namespace
}  // namespace kvlab

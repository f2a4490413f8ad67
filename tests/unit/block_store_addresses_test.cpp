// Addresses in blocks of more than 2^31 elements, which are reserved and never touched.
#include <gtest/gtest.h>

#include <cstdint>

#include "kvlab/cache/block_store.h"

namespace kvlab {
namespace {

TEST(BlockStoreAddresses, OffsetsAre64Bit) {
  CacheShape shape;
  shape.layers = 3;
  shape.rows = 1;
  shape.query_heads = shape.kv_heads = 6;
  shape.key_dim = int64_t{1} << 21;
  shape.value_dim = 5;
  shape.max_length = shape.max_step_tokens = 128;
  shape.dtype = at::kBFloat16;
  constexpr int64_t kBlock = 64;
  StorageArena arena;
  BlockStore store(shape, kBlock, 0, arena);
  StepPlan plan;
  RowSlice slice;
  slice.count = 1;
  plan.add(slice, std::vector<int32_t>{1});
  store.reserve(plan);
  const int32_t block = store.table(0)[0];
  const auto address = [](const void* data) { return reinterpret_cast<uintptr_t>(data); };
  const KVSegment first = store.run(0, block).segment(0, 1, 0);
  const KVSegment last = store.run(2, block).segment(kBlock - 1, 1, 0);
  // [L][K: G,block,Dk | V: G,block,Dv]
  const int64_t layer = shape.kv_heads * kBlock * (shape.key_dim + shape.value_dim);
  const int64_t keys = 2 * layer + (kBlock - 1) * shape.key_dim;
  const int64_t last_head = 5 * last.keys.head_stride;
  EXPECT_EQ(address(last.keys.data) - address(first.keys.data), static_cast<uintptr_t>(2 * keys));
  EXPECT_EQ(last_head, 5 * kBlock * shape.key_dim);
  EXPECT_GT(keys + last_head, int64_t{1} << 31);
  EXPECT_EQ(address(last.values.data) - address(first.values.data),
            static_cast<uintptr_t>(2 * (2 * layer + (kBlock - 1) * shape.value_dim)));
}

}  // namespace
}  // namespace kvlab

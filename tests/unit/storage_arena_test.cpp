#include "kvlab/core/storage_arena.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

TEST(StorageArena, CountsATensorUntilItsLastHandleDies) {
  StorageArena arena;
  at::Tensor kept;
  {
    const at::Tensor tensor = arena.allocate({3, 5}, at::kBFloat16, MemoryKind::storage);
    EXPECT_EQ(tensor.sizes(), (std::vector<int64_t>{3, 5}));
    kept = tensor.narrow(0, 1, 1);
    EXPECT_EQ(arena.usage().live_bytes(MemoryKind::storage), 30);
  }
  EXPECT_EQ(arena.usage().live_bytes(MemoryKind::storage), 30);
  kept = at::Tensor();
  EXPECT_EQ(arena.usage().live_total(), 0);
  EXPECT_EQ(arena.usage().peak_bytes(MemoryKind::storage), 30);
}

TEST(StorageArena, CountsKindsApartAndThePeakOfTheirSum) {
  StorageArena arena;
  const at::Tensor storage = arena.allocate({10}, at::kFloat, MemoryKind::storage);
  {
    const at::Tensor scratch = arena.allocate({5}, at::kFloat, MemoryKind::scratch);
    std::pmr::vector<int32_t> table(7, arena.metadata());
    EXPECT_EQ(arena.usage().live_bytes(MemoryKind::metadata), 28);
    EXPECT_EQ(arena.usage().reserved(), 68);
  }
  const MemoryUsage usage = arena.usage();
  EXPECT_EQ(usage.live_total(), 40);
  EXPECT_EQ(usage.peak_bytes(MemoryKind::scratch), 20);
  EXPECT_EQ(usage.peak_bytes(MemoryKind::metadata), 28);
  EXPECT_EQ(usage.peak_total, 88);
}

TEST(StorageArena, RestartsPeaksFromWhatIsLive) {
  StorageArena arena;
  const at::Tensor kept = arena.allocate({2}, at::kFloat, MemoryKind::storage);
  arena.allocate({100}, at::kFloat, MemoryKind::storage);
  EXPECT_EQ(arena.usage().peak_total, 408);
  arena.restart_peaks();
  EXPECT_EQ(arena.usage().peak_total, 8);
  EXPECT_EQ(arena.usage().peak, arena.usage().live);
}

TEST(StorageArena, FillsFreshAndFreedMemoryWithNaNOnRequest) {
  StorageArena arena(ArenaOptions{.poison = true});
  EXPECT_TRUE(arena.poisons());
  const at::Tensor single = arena.allocate({9}, at::kFloat, MemoryKind::scratch);
  const at::Tensor half = arena.allocate({9}, at::kBFloat16, MemoryKind::storage);
  for (int64_t i = 0; i < 9; ++i) {
    EXPECT_TRUE(std::isnan(single.const_data_ptr<float>()[i]));
    EXPECT_TRUE(std::isnan(static_cast<float>(half.const_data_ptr<at::BFloat16>()[i])));
  }
  EXPECT_FALSE(StorageArena().poisons());
}

TEST(StorageArena, AlignsForVectorsAndForHugePages) {
  StorageArena arena;
  const at::Tensor small = arena.allocate({3}, at::kFloat, MemoryKind::storage);
  const at::Tensor large = arena.allocate({1 << 20}, at::kFloat, MemoryKind::storage);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(small.const_data_ptr()) % 64, 0U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(large.const_data_ptr()) % (2U << 20), 0U);
}

TEST(StorageArena, RefusesWhatDoesNotFitAndCountsNothing) {
  StorageArena arena(ArenaOptions{.limit = 100});
  const at::Tensor kept = arena.allocate({20}, at::kFloat, MemoryKind::storage);
  try {
    arena.allocate({6}, at::kFloat, MemoryKind::scratch);
    FAIL() << "104 of 100 bytes";
  } catch (const CapacityError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[core.arena.allocate] 24 bytes of scratch do not fit: live 80, limit 100");
  }
  EXPECT_EQ(arena.usage().live_total(), 80);
  EXPECT_EQ(arena.usage().peak_total, 80);
  EXPECT_THROW(std::pmr::vector<char>(21, arena.metadata()), CapacityError);
  arena.allocate({5}, at::kFloat, MemoryKind::scratch);
}

TEST(StorageArena, RefusesSizesBeyond64Bits) {
  StorageArena arena;
  const int64_t huge = int64_t{1} << 40;
  EXPECT_THROW(arena.allocate({huge, huge}, at::kFloat, MemoryKind::storage), CapacityError);
  EXPECT_THROW(arena.allocate({-1}, at::kFloat, MemoryKind::storage), UserError);
  EXPECT_EQ(arena.usage().peak_total, 0);
}

TEST(StorageArena, FailsTheAskedAllocationOfAnyKindOnce) {
  StorageArena arena;
  arena.fail_allocation(3);
  const at::Tensor first = arena.allocate({1}, at::kFloat, MemoryKind::storage);
  const MemoryHold second = arena.hold(8, MemoryKind::scratch);
  EXPECT_THROW(std::pmr::vector<int>(4, arena.metadata()), CapacityError);
  EXPECT_EQ(arena.usage().live_total(), 12);
  const at::Tensor fourth = arena.allocate({1}, at::kFloat, MemoryKind::storage);
  EXPECT_EQ(arena.allocations(), 3);
  arena.fail_allocation(1);
  arena.fail_allocation(0);
  const at::Tensor fifth = arena.allocate({1}, at::kFloat, MemoryKind::storage);
}

TEST(StorageArena, HoldsCountUntilDestroyedOrReplaced) {
  StorageArena arena;
  {
    MemoryHold hold = arena.hold(10, MemoryKind::scratch);
    MemoryHold moved = std::move(hold);
    EXPECT_EQ(arena.usage().live_total(), 10);
    moved = arena.hold(4, MemoryKind::scratch);
    EXPECT_EQ(arena.usage().live_total(), 4);
    MemoryHold& alias = moved;
    moved = std::move(alias);
    EXPECT_EQ(arena.usage().live_total(), 4);
  }
  EXPECT_EQ(arena.usage().live_total(), 0);
}

TEST(StorageArena, HandlesMayOutliveIt) {
  std::optional<StorageArena> arena(std::in_place, ArenaOptions{.poison = true});
  at::Tensor tensor = arena->allocate({4}, at::kFloat, MemoryKind::storage);
  MemoryHold hold = arena->hold(4, MemoryKind::scratch);
  arena.reset();
  tensor.fill_(1);
  EXPECT_EQ(tensor.const_data_ptr<float>()[3], 1);
}

TEST(StorageArena, GivesEmptyTensors) {
  StorageArena arena;
  const at::Tensor empty = arena.allocate({0, 7}, at::kFloat, MemoryKind::storage);
  EXPECT_EQ(empty.numel(), 0);
  EXPECT_EQ(arena.usage().live_total(), 0);
}

}  // namespace
}  // namespace kvlab

#include "kvlab/cache/block_pool.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "kvlab/core/error.h"
#include "kvlab/core/storage_arena.h"

namespace kvlab {
namespace {

TEST(BlockPool, OpensBlocksOneByOneUpToItsLimit) {
  StorageArena arena;
  BlockPool pool(2, arena.metadata());
  EXPECT_EQ(pool.opened(), 0);
  pool.open();
  pool.open();
  EXPECT_EQ(pool.free(), 2);
  EXPECT_EQ(pool.held(), 0);
  EXPECT_THROW(pool.open(), InternalError);
}

TEST(BlockPool, FreesABlockWithItsLastReference) {
  StorageArena arena;
  BlockPool pool(3, arena.metadata());
  pool.open();
  const int32_t block = pool.take();
  pool.share(block);
  pool.share(block);
  EXPECT_EQ(pool.references(block), 3);
  EXPECT_FALSE(pool.release(block));
  EXPECT_FALSE(pool.release(block));
  EXPECT_EQ(pool.held(), 1);
  EXPECT_TRUE(pool.release(block));
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.take(), block);
  pool.check_integrity();
}

TEST(BlockPool, TakesBackTheNewestBlockWhereverItStandsInTheFreeList) {
  StorageArena arena;
  BlockPool pool(3, arena.metadata());
  pool.open();
  const int32_t oldest = pool.take();
  pool.open();
  pool.release(oldest);  // now on top of the newest
  pool.close_newest();
  pool.check_integrity();
  EXPECT_EQ(pool.opened(), 1);
  EXPECT_EQ(pool.take(), oldest);
}

TEST(BlockPool, AllocatesOnlyWhenBuilt) {
  StorageArena arena;
  BlockPool pool(50, arena.metadata());
  const int64_t allocations = arena.allocations();
  const MemoryUsage usage = arena.usage();
  EXPECT_EQ(usage.live_bytes(MemoryKind::metadata), 50 * 8);
  for (int i = 0; i < 50; ++i) pool.open();
  for (int i = 0; i < 50; ++i) pool.take();
  for (int i = 0; i < 50; ++i) pool.release(i);
  EXPECT_EQ(arena.allocations(), allocations);
  EXPECT_EQ(arena.usage(), usage);
}

TEST(BlockPool, RefusesSizesThatCannotBe) {
  StorageArena arena;
  EXPECT_THROW(BlockPool(0, arena.metadata()), UserError);
  EXPECT_THROW(BlockPool(int64_t{1} << 31, arena.metadata()), UserError);
}

TEST(BlockPool, AgreesWithAMapOfReferences) {
  const unsigned seed = 90210;
  RecordProperty("seed", static_cast<int>(seed));
  std::mt19937 random(seed);
  StorageArena arena;
  BlockPool pool(12, arena.metadata());
  std::map<int32_t, int> model;
  for (int i = 0; i < 5000; ++i) {
    const auto choice = random() % 4;
    if (choice == 0 && pool.opened() < 12) pool.open();
    if (choice == 1 && pool.free() > 0) {
      const int32_t block = pool.take();
      ASSERT_FALSE(model.contains(block)) << "seed " << seed << " operation " << i;
      model[block] = 1;
    }
    if (choice >= 2 && !model.empty()) {
      auto entry = std::next(model.begin(), static_cast<long>(random() % model.size()));
      if (choice == 2) {
        pool.share(entry->first);
        ++entry->second;
      } else {
        const bool last = --entry->second == 0;
        ASSERT_EQ(pool.release(entry->first), last);
        if (last) model.erase(entry);
      }
    }
    pool.check_integrity();
    ASSERT_EQ(pool.held(), static_cast<int64_t>(model.size()));
    ASSERT_EQ(pool.held() + pool.free(), pool.opened());
    for (const auto& [block, references] : model) ASSERT_EQ(pool.references(block), references);
  }
}

}  // namespace
}  // namespace kvlab

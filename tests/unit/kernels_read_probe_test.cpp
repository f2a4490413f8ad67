#include "kvlab/kernels/read_probe.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "kvlab/core/error.h"
#include "kvlab/kernels/target.h"

namespace kvlab::kernels {
namespace {

constexpr int64_t kMebibyte = int64_t{1} << 20;

// `measure` compares what every loop read with a sum that is known without reading: it throws where
// a loop leaves out a byte. Sizes that the threads do not divide are the ones that could.
TEST(KernelsReadProbe, EveryLoopReadsAllOfTheMemoryForAnyNumberOfThreads) {
  for (const int64_t bytes : {int64_t{1}, 3 * kMebibyte, 10 * kMebibyte}) {
    ReadProbe probe(bytes);
    for (const int threads : {1, 2, 3, 5}) {
      ThreadPool pool(threads);
      EXPECT_NO_THROW(probe.measure(pool)) << bytes << " bytes, " << threads << " threads";
    }
  }
}

TEST(KernelsReadProbe, EveryInstructionSetReadsAllOfTheMemory) {
  ReadProbe probe(6 * kMebibyte);
  ThreadPool pool(2);
  for (const std::string& target : available_targets()) {
    use_target(target);
    EXPECT_NO_THROW(probe.measure(pool)) << target;
  }
  use_target("");
}

TEST(KernelsReadProbe, NamesTheLoopThatWasFastest) {
  ReadProbe probe(4 * kMebibyte);
  ThreadPool pool(2);
  const ReadSpeed speed = probe.measure(pool, 3);
  EXPECT_NE(speed.loop.find("stream"), std::string::npos) << speed.loop;
  EXPECT_GT(speed.bytes_per_second, 0);
  // More than any memory or cache gives two threads: it would mean that nothing was read.
  EXPECT_LT(speed.bytes_per_second, 1e13);
}

TEST(KernelsReadProbe, RefusesMemoryThatNobodyHas) {
  EXPECT_THROW(ReadProbe{int64_t{1} << 60}, CapacityError);
  EXPECT_THROW(ReadProbe{std::numeric_limits<int64_t>::max()}, CapacityError);
}

TEST(KernelsReadProbe, RefusesSizesAndRoundsBelowOne) {
  EXPECT_THROW(ReadProbe{0}, UserError);
  ReadProbe probe(kMebibyte);
  ThreadPool pool(1);
  EXPECT_THROW(probe.measure(pool, 0), UserError);
}

}  // namespace
}  // namespace kvlab::kernels

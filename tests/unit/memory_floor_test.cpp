#include "kvlab/runtime/memory_floor.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

int64_t probe_bytes(const std::string& text) {
  ConfigReader reader(parse_config_text(text, "f.yaml"));
  const int64_t bytes = parse_probe_bytes(reader);
  reader.finish();
  return bytes;
}

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no UserError";
}

TEST(MemoryFloor, IsTheTimeOfReadingTheBytesOfAStep) {
  const StepBytes bytes{500e6, 100e6};
  EXPECT_DOUBLE_EQ(floor_ms(bytes, 40e9), 15);
  EXPECT_DOUBLE_EQ(floor_share(bytes, 40e9, 20), 0.75);
  EXPECT_DOUBLE_EQ(floor_share(bytes, 40e9, 10), 1.5) << "the CPU's caches are faster than memory";
}

TEST(MemoryFloor, RefusesATimeAndABandwidthThatWereNotMeasured) {
  EXPECT_NE(message_of([] { floor_share({1, 1}, 1e9, 0); }).find("the time of a step"),
            std::string::npos);
  EXPECT_NE(message_of([] { floor_ms({1, 1}, 0); }).find("Measure the bandwidth first"),
            std::string::npos);
}

TEST(MemoryFloor, ReadsHowMuchTheProbeReads) {
  EXPECT_EQ(probe_bytes("probe: 64MiB"), int64_t{64} << 20);
  EXPECT_NE(message_of([] { probe_bytes("probe: 15MiB"); }).find("wanted at least 16MiB"),
            std::string::npos);
  EXPECT_NE(message_of([] { probe_bytes("probe: [1]"); }).find("wanted a size like 1GiB"),
            std::string::npos);
  EXPECT_NE(message_of([] { probe_bytes("probe: 1000000GiB"); }).find("are available"),
            std::string::npos);
}

TEST(MemoryFloor, ABlockHasTheFasterOfItsTwoEnds) {
  const std::vector<double> speeds = {10e9, 40e9, 20e9, 30e9, 15e9};
  size_t next = 0;
  BlockBandwidth bandwidth([&] {
    const double speed = speeds[next++];
    return kernels::ReadSpeed{speed, std::to_string(next) + " streams"};
  });
  EXPECT_EQ(bandwidth.end_block().bytes_per_second, 40e9) << "the end is faster";
  const kernels::ReadSpeed second = bandwidth.end_block();
  EXPECT_EQ(second.bytes_per_second, 40e9) << "the beginning is the end of the block before";
  EXPECT_EQ(second.loop, "2 streams");
  EXPECT_EQ(bandwidth.end_block().bytes_per_second, 30e9);
  EXPECT_EQ(bandwidth.end_block().bytes_per_second, 30e9);
  EXPECT_EQ(next, speeds.size()) << "one end belongs to two blocks";
}

}  // namespace
}  // namespace kvlab

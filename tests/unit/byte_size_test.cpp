#include "kvlab/core/byte_size.h"

#include <gtest/gtest.h>

#include <limits>

namespace {

using namespace kvlab;

TEST(ByteSize, UnitsAreTensOrTwosAsTheyAreWritten) {
  EXPECT_EQ(parse_byte_size("2GB"), 2000000000);
  EXPECT_EQ(parse_byte_size("512MiB"), 512 * 1048576);
  EXPECT_EQ(parse_byte_size("1.5 kB"), 1500);
  EXPECT_EQ(parse_byte_size("1TiB"), 1099511627776);
  EXPECT_EQ(parse_byte_size("1000000"), 1000000);
  EXPECT_EQ(parse_byte_size("7b"), 7);
}

TEST(ByteSize, AnythingElseIsNoSize) {
  for (const char* text :
       {"", "GB", "2 apples", "-1GB", "0", "0.1", "1e30", "nan", "2GB ", "2 G B"}) {
    EXPECT_EQ(parse_byte_size(text), std::nullopt) << "'" << text << "'";
  }
}

TEST(ByteSize, IsWrittenWithThreeDigits) {
  EXPECT_EQ(format_byte_size(2000000000), "2 GB");
  EXPECT_EQ(format_byte_size(67108864), "67.1 MB");
  EXPECT_EQ(format_byte_size(1500), "1.5 kB");
  EXPECT_EQ(format_byte_size(512), "512 B");
  EXPECT_EQ(format_byte_size(999), "999 B");
  EXPECT_EQ(format_byte_size(999499), "999 kB");
  EXPECT_EQ(format_byte_size(999500), "1 MB");
  EXPECT_EQ(format_byte_size(999999), "1 MB");
  EXPECT_EQ(format_byte_size(1000000000000000), "1 PB");
  EXPECT_EQ(format_byte_size(std::numeric_limits<int64_t>::max()), "9.22 EB");
  EXPECT_EQ(parse_byte_size("1 PB"), 1000000000000000);
}

}  // namespace

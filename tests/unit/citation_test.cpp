// CITATION.cff names the version that is built.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>

#include "kvlab/core/version.h"

namespace kvlab {
namespace {

TEST(Citation, NamesTheVersionAndTheLicence) {
  std::ifstream file(KVLAB_SOURCE_DIR "/CITATION.cff");
  std::set<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.insert(line);
  EXPECT_TRUE(lines.contains("version: " KVLAB_FRAMEWORK_VERSION));
  EXPECT_TRUE(lines.contains("license: Apache-2.0"));
  EXPECT_TRUE(lines.contains("cff-version: 1.2.0"));
}

}  // namespace
}  // namespace kvlab

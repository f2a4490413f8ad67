// CITATION.cff names the version that is built.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include "kvlab/core/version.h"

namespace kvlab {
namespace {

TEST(Citation, NamesTheVersionAndTheLicence) {
  const YAML::Node citation = YAML::LoadFile(KVLAB_SOURCE_DIR "/CITATION.cff");
  EXPECT_EQ(citation["version"].as<std::string>(), KVLAB_FRAMEWORK_VERSION);
  EXPECT_EQ(citation["license"].as<std::string>(), "Apache-2.0");
  EXPECT_EQ(citation["cff-version"].as<std::string>(), "1.2.0");
  EXPECT_TRUE(citation["authors"][0]["name"].IsDefined());
  EXPECT_TRUE(citation["title"].IsDefined());
}

}  // namespace
}  // namespace kvlab

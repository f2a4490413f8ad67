// What the kit leaves out of the shipped plugins is kept beside each plugin, and nothing else is left
// out.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "kvlab/conformance/cache_case.h"
#include "kvlab/conformance/suite.h"

namespace kvlab::conformance {
namespace {

namespace fs = std::filesystem;

const fs::path kPlugins = fs::path(KVLAB_SOURCE_DIR) / "plugins";

const Registry& shipped() {
  static const Registry registry = [] {
    Registry made;
    register_builtin_plugins(made);
    return made;
  }();
  return registry;
}

/// A plugin of a kind that the kit tests.
struct Tested {
  std::string kind, suite, name;
};

std::vector<Tested> tested_plugins() {
  std::vector<Tested> plugins;
  for (const auto& entry : shipped().caches()) {
    plugins.push_back({"cache", "CacheConformance", entry.info.name});
  }
  for (const auto& entry : shipped().attentions()) {
    plugins.push_back({"attention", "AttentionConformance", entry.info.name});
  }
  for (const auto& entry : shipped().positions()) {
    plugins.push_back({"position", "PositionConformance", entry.info.name});
  }
  return plugins;
}

std::string text_of(const fs::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(ConformanceCoverage, NothingIsLeftOutThatThePluginDoesNotList) {
  for (const Tested& plugin : tested_plugins()) {
    const fs::path file = kPlugins / plugin.kind / plugin.name / kLeftOutFile;
    const std::string wanted = left_out_text(shipped(), plugin.suite, plugin.name);
    EXPECT_EQ(fs::exists(file), !wanted.empty())
        << file.string() << (wanted.empty() ? " is not needed; delete it" : " is missing");
    EXPECT_EQ(text_of(file), wanted)
        << file.string() << " does not say what is left out now. If that is meant, let "
        << "tools/golden_traces --update write:\n" << wanted;
  }
}

TEST(ConformanceCoverage, EveryListBelongsToAPlugin) {
  std::set<fs::path> folders;
  for (const Tested& plugin : tested_plugins()) folders.insert(kPlugins / plugin.kind / plugin.name);
  for (const auto& entry : fs::recursive_directory_iterator(kPlugins)) {
    if (entry.path().filename() != kLeftOutFile) continue;
    EXPECT_TRUE(folders.contains(entry.path().parent_path()))
        << entry.path().string() << " belongs to no registered plugin; delete it";
  }
}

TEST(ConformanceCoverage, RowsBelongToTheirSuite) {
  const Registered registered = survey_conformance(shipped());
  std::set<std::string> suites;
  for (const LeftOut& row : registered.left_out) {
    if (row.test == "IsRepeatableToTheBit") suites.insert(row.suite);
    EXPECT_GT(row.cases, 0) << row.plugin << ", " << row.test;
  }
  // A name that attentions and positions share.
  EXPECT_EQ(suites, std::set<std::string>{"PositionConformance"});
}

TEST(ConformanceCoverage, CasesOfARowAreCounted) {
  const std::string paged = left_out_text(shipped(), "CacheConformance", "paged");
  EXPECT_EQ(paged,
            "StorageDoesNotGrowWithTheText: is not bounded: storage may grow with the text "
            "(45 cases)\n");
}

TEST(ConformanceCoverage, EveryRegisteredCacheHasCasesOfEveryKind) {
  const CacheCases cases = cache_cases(shipped());
  EXPECT_TRUE(cases.useless.empty());
  for (const CacheEntry& entry : shipped().caches()) {
    std::set<std::string> kinds;
    for (const CacheCase& chosen : cases.cases) {
      if (chosen.plugin != entry.info.name) continue;
      kinds.insert(std::string(c10::toString(chosen.shape.dtype)) + " " +
                   std::to_string(chosen.shape.kv_heads) + " " +
                   std::to_string(chosen.shape.window));
    }
    EXPECT_EQ(kinds.size(), 9U) << entry.info.name;
  }
}

TEST(ConformanceCoverage, CachesThatMayEvictHaveCasesWithShortSteps) {
  for (const CacheCase& chosen : cache_cases(shipped()).cases) {
    if (!chosen.first_of_options) continue;
    const CacheTraits traits = traits_of(shipped(), chosen);
    const auto cases = cache_cases(shipped(), {chosen.plugin}).cases;
    const auto count =
        std::count_if(cases.begin(), cases.end(), [&](const CacheCase& other) {
          return other.spec == chosen.spec && has_short_steps(other);
        });
    const bool evicts = !traits.keeps_nothing && (traits.window > 0 || traits.bounded);
    EXPECT_EQ(count, evicts ? 3 : 0) << chosen.name;
  }
}

TEST(ConformanceCoverage, OneNameChoosesOnePlugin) {
  SuiteOptions options;
  options.plugins = {"paged"};
  const int64_t one = survey_conformance(shipped(), options).tests;
  EXPECT_GT(one, 0);
  EXPECT_LT(one, survey_conformance(shipped()).tests);
}

}  // namespace
}  // namespace kvlab::conformance

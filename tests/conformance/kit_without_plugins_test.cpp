// The kit alone: a registry that holds one cache and nothing else, as in another project's test.
#include <gtest/gtest.h>

#include <algorithm>

#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/cache_properties.h"
#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {
namespace {

CacheEntry built_in(const std::string& name) {
  Registry registry;
  register_builtin_plugins(registry);
  return registry.cache(name);
}

// A registry without attention and position plugins.
Registry registry_of(CacheEntry entry) {
  Registry registry;
  registry.add(std::move(entry));
  return registry;
}

TEST(KitWithoutPlugins, ComparesAnswersWithoutAnAttentionPlugin) {
  const Registry registry = registry_of(built_in("paged"));
  for (const CacheCase& chosen : cache_cases(registry).cases) {
    find_cache_property("AnyChunkingGivesTheSameAnswer")->run(registry, chosen);
    CacheHarness harness(registry, chosen);
    harness.step({{0, 5}});
    EXPECT_EQ(harness.outputs().size(), 2U) << chosen.name;
  }
}

TEST(KitWithoutPlugins, FindsTraitsThatTheCacheDoesNotShare) {
  CacheEntry entry = built_in("preallocated");
  entry.traits = [traits = entry.traits](const CacheRequest& request) {
    CacheTraits changed = traits(request);
    changed.window = 5;
    return changed;
  };
  const Registry registry = registry_of(std::move(entry));
  const CacheCase chosen = cache_cases(registry).cases.front();
  EXPECT_EQ(message_of<Failure>([&] { CacheHarness harness(registry, chosen); }),
            "the cache's traits are not those that its registry entry gives");
}

TEST(KitWithoutPlugins, CasesHaveLabelsAndRefusalsReasons) {
  const Registry registry = registry_of(built_in("paged"));
  const CacheCases cases = cache_cases(registry);
  std::vector<std::string> names;
  for (const CacheCase& chosen : cases.cases) names.push_back(chosen.name);
  const auto has = [&](const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  EXPECT_TRUE(has("paged_f32_G6"));
  EXPECT_TRUE(has("paged_block_size_5_bf16_G3"));
  EXPECT_TRUE(has("paged_block_size_5_f32_G3_W4"));
  EXPECT_TRUE(cases.refused.empty());
  EXPECT_THROW(cache_cases(registry, {"no_such_cache"}), MissingError);
}

TEST(KitWithoutPlugins, AnExampleThatFitsNoShapeIsFound) {
  CacheEntry entry = built_in("paged");
  entry.info.examples = {"block_size=0", "block_size=7"};
  const CacheCases cases = cache_cases(registry_of(std::move(entry)));
  EXPECT_EQ(cases.useless, std::vector<std::string>{"paged:block_size=0"});
  EXPECT_EQ(cases.refused.size(), 9U);
  EXPECT_FALSE(cases.refused.front().reason.empty());
}

TEST(KitWithoutPlugins, EdgeLengthsComeFromTheOptions) {
  const Registry registry = registry_of(built_in("paged"));
  for (const CacheCase& chosen : cache_cases(registry).cases) {
    if (chosen.spec != "paged:block_size=5" || chosen.shape.window > 0) continue;
    EXPECT_EQ(edge_lengths(registry, chosen),
              (std::vector<int64_t>{0, 1, 4, 5, 6, 10, 22, 23}));
  }
}

TEST(KitWithoutPlugins, OptionsBecomeLabels) {
  EXPECT_EQ(option_label(""), "");
  EXPECT_EQ(option_label("block_size=5,x=y"), "_block_size_5_x_y");
  EXPECT_EQ(option_label("inner.block_size=3"), "_inner_block_size_3");
}

TEST(KitWithoutPlugins, EveryPropertyHasANameAndARule) {
  std::vector<std::string> names;
  for (const CacheProperty& property : cache_properties()) {
    names.emplace_back(property.name);
    EXPECT_EQ(std::string(property.rule).back(), '.') << property.name;
    EXPECT_EQ(find_cache_property(property.name), &property);
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  EXPECT_EQ(find_cache_property("NoSuchProperty"), nullptr);
}

}  // namespace
}  // namespace kvlab::conformance

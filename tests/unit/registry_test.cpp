#include "kvlab/runtime/registry.h"

#include <gtest/gtest.h>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

CacheEntry cache_entry(const std::string& name) {
  CacheEntry entry;
  entry.info.name = name;
  OptionSpec size;
  size.name = "size";
  size.default_text = "3";
  entry.info.options = {size};
  entry.traits = [](const CacheRequest& request) {
    CacheTraits traits;
    traits.exact = request.options.integer("size") == 3;
    return traits;
  };
  entry.estimate = [](const CacheRequest& request, const StepSequence&) {
    MemoryUsage usage;
    usage.add(MemoryKind::storage, request.options.integer("size") * request.shape.rows);
    return usage;
  };
  entry.create = [](const CacheRequest&, StorageArena&) { return std::unique_ptr<KVCache>(); };
  return entry;
}

template <typename Thrown, typename Function>
std::string message_of(Function function) {
  try {
    function();
  } catch (const Thrown& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Registry, FindsWhatWasAdded) {
  Registry registry;
  registry.add(cache_entry("paged"));
  EXPECT_EQ(registry.cache("paged").info.name, "paged");
  EXPECT_EQ(registry.caches().size(), 1U);
  EXPECT_EQ(registry.cache("paged").origin, "built in");
  EXPECT_TRUE(registry.attentions().empty());
}

TEST(Registry, NamesBothOriginsOfATakenName) {
  Registry registry;
  registry.add(cache_entry("paged"));
  registry.begin_origin("/tmp/mine.so");
  EXPECT_EQ(message_of<PluginError>([&] { registry.add(cache_entry("paged")); }),
            "[registry.add] cache 'paged' from /tmp/mine.so is taken by built in; give one of them "
            "another name");
  EXPECT_EQ(registry.caches().size(), 1U);
  registry.add(cache_entry("other"));
  EXPECT_EQ(registry.cache("other").origin, "/tmp/mine.so");
}

TEST(Registry, SuggestsNamesForAnUnknownOne) {
  Registry registry;
  registry.add(cache_entry("paged"));
  registry.add(cache_entry("concat"));
  EXPECT_EQ(message_of<MissingError>([&] { registry.cache("pagde", "run.yaml:7:3"); }),
            "run.yaml:7:3: [registry.cache] no cache is named 'pagde'. Did you mean 'paged'? "
            "Known: paged, concat.");
  EXPECT_THROW(registry.attention("eager"), MissingError);
  EXPECT_THROW(registry.position("rope"), MissingError);
  EXPECT_THROW(registry.experiment("generation"), MissingError);
}

TEST(Registry, RefusesIncompleteEntries) {
  Registry registry;
  CacheEntry entry = cache_entry("paged");
  entry.estimate = nullptr;
  EXPECT_THROW(registry.add(entry), PluginError);
  entry = cache_entry("paged");
  entry.traits = nullptr;
  EXPECT_THROW(registry.add(entry), PluginError);
  entry = cache_entry("paged");
  entry.create = nullptr;
  EXPECT_THROW(registry.add(entry), PluginError);
  EXPECT_THROW(registry.add(cache_entry("")), PluginError);
  EXPECT_TRUE(registry.caches().empty());
}

TEST(Registry, RefusesAttentionAndPositionWithoutTraits) {
  Registry registry;
  AttentionEntry attention;
  attention.info.name = "eager";
  attention.create = [](const Options&) { return std::unique_ptr<Attention>(); };
  EXPECT_THROW(registry.add(attention), PluginError);
  PositionEntry position;
  position.info.name = "rope";
  position.create = [](const Options&, const PositionShape&) {
    return std::unique_ptr<PositionEncoding>();
  };
  EXPECT_THROW(registry.add(position), PluginError);
  EXPECT_TRUE(registry.attentions().empty());
  EXPECT_TRUE(registry.positions().empty());
}

TEST(Registry, ChecksOptionsBeforeItAsksThePlugin) {
  Registry registry;
  registry.add(cache_entry("paged"));
  CacheShape shape;
  shape.rows = 5;
  EXPECT_TRUE(registry.cache_traits(parse_component_spec("paged"), shape).exact);
  EXPECT_FALSE(registry.cache_traits(parse_component_spec("paged:size=4"), shape).exact);
  EXPECT_EQ(registry.estimate_cache(parse_component_spec("paged:size=4"), shape, {}).reserved(), 20);
  StorageArena arena;
  EXPECT_THROW(registry.cache_traits(parse_component_spec("paged:size=x"), shape), UserError);
  EXPECT_THROW(registry.make_cache(parse_component_spec("paged:other=1"), shape, arena), UserError);
}

TEST(Registry, HasNoStateBesidesItself) {
  Registry first, second;
  first.add(cache_entry("paged"));
  EXPECT_TRUE(second.caches().empty());
}

}  // namespace
}  // namespace kvlab

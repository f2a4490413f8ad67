// Every cache of this build has a trace beside its source, and still does what it says.
#include "kvlab/conformance/golden_trace.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "kvlab/core/error.h"

namespace kvlab::conformance {
namespace {

const std::filesystem::path kCaches = std::filesystem::path(KVLAB_SOURCE_DIR) / "plugins/cache";

const Registry& built_in() {
  static const Registry registry = [] {
    Registry made;
    register_builtin_plugins(made);
    return made;
  }();
  return registry;
}

TEST(GoldenTrace, EveryCacheDoesWhatItsTraceSays) {
  for (const CacheEntry& entry : built_in().caches()) {
    const std::filesystem::path file = kCaches / entry.info.name / kTraceFile;
    std::ifstream stream(file);
    if (!stream) {
      ADD_FAILURE() << entry.info.name << " has no " << file.string()
                    << ". Write it with: tools/golden_traces --update";
      continue;
    }
    const std::string kept(std::istreambuf_iterator<char>(stream), {});
    const auto difference = trace_difference(kept, golden_trace(built_in(), entry.info.name));
    if (difference) ADD_FAILURE() << file.string() << ": " << *difference;
  }
}

TEST(GoldenTrace, EveryTraceBelongsToACache) {
  for (const auto& folder : std::filesystem::directory_iterator(kCaches)) {
    if (!std::filesystem::exists(folder.path() / kTraceFile)) continue;
    EXPECT_NO_THROW(built_in().cache(folder.path().filename().string()))
        << (folder.path() / kTraceFile).string() << " belongs to no registered cache; delete it";
  }
}

TEST(GoldenTrace, IsTheSameEachTime) {
  for (const CacheEntry& entry : built_in().caches()) {
    EXPECT_EQ(golden_trace(built_in(), entry.info.name), golden_trace(built_in(), entry.info.name));
  }
}

TEST(GoldenTrace, ShowsTheFirstLineThatDiffers) {
  EXPECT_EQ(trace_difference("a\nb\n", "a\nb\n"), std::nullopt);
  EXPECT_TRUE(trace_difference("a\nb\n", "a\nc\n")
                  ->starts_with("line 2 differs\n  was: b\n  is:  c\n"));
  EXPECT_TRUE(trace_difference("a\n", "a\nb\n")
                  ->starts_with("line 2 differs\n  was: (no line)\n  is:  b\n"));
  EXPECT_TRUE(trace_difference("a\nb", "a\nb\n").has_value());
  EXPECT_NE(trace_difference("a", "b")->find("tools/golden_traces --update"), std::string::npos);
}

TEST(GoldenTrace, AnUnknownCacheIsAnError) {
  EXPECT_THROW(golden_trace(built_in(), "no_such_cache"), MissingError);
}

}  // namespace
}  // namespace kvlab::conformance

// What the conformance run of the shipped plugins leaves out, row by row. Whoever adds a plugin
// that promises less adds rows here.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "kvlab/conformance/cache_case.h"
#include "kvlab/conformance/suite.h"

namespace kvlab::conformance {
namespace {

Registry shipped() {
  Registry registry;
  register_builtin_plugins(registry);
  return registry;
}

const std::vector<LeftOut> kLeftOut = {
    {"alibi", "AddsTheSameToEverything", "adds nothing to the embedding"},
    {"alibi", "AddsTheTablesRows", "needs no table"},
    {"alibi", "ChangesPartsOfTensorsInPlace", "changes neither embedding nor heads"},
    {"alibi", "EndsAtMaxPosition", "has no end"},
    {"alibi", "EndsWithItsTable", "needs no table"},
    {"alibi", "EveryHeadTurnsAlike", "does not rotate"},
    {"alibi", "FarPositionsAreFinite", "changes neither embedding nor heads"},
    {"alibi", "GivesBf16WithinItsPrecision", "changes neither embedding nor heads"},
    {"alibi", "IsRepeatableToTheBit", "changes neither embedding nor heads"},
    {"alibi", "NeedsItsTable", "needs no table"},
    {"alibi", "PositionZeroTurnsNothing", "does not rotate"},
    {"alibi", "PositionsBelongToTokens", "changes neither embedding nor heads"},
    {"alibi", "RefusesTensorsOfOtherShapes", "changes neither embedding nor heads"},
    {"alibi", "RotationsAdd", "does not rotate"},
    {"alibi", "RotationsKeepNorms", "does not rotate"},
    {"alibi", "ScoresDependOnTheDistanceOnly", "does not rotate"},
    {"alibi", "ServesOddHeadDimsOrRefusesThem", "does not rotate"},
    {"concat", "StorageDoesNotGrowWithTheText", "is not bounded: storage may grow with the text"},
    {"gqa_shared", "StorageDoesNotGrowWithTheText",
     "is not bounded: storage may grow with the text"},
    {"learned", "EveryHeadTurnsAlike", "does not rotate"},
    {"learned", "FarPositionsAreFinite", "has an end"},
    {"learned", "GivesOneSlopePerHead", "does not bias scores"},
    {"learned", "KeysKeptBeforePositionComeOutRotated", "cannot be re-based"},
    {"learned", "PositionZeroTurnsNothing", "does not rotate"},
    {"learned", "RotationsAdd", "does not rotate"},
    {"learned", "RotationsKeepNorms", "does not rotate"},
    {"learned", "ScoresDependOnTheDistanceOnly", "does not rotate"},
    {"learned", "ServesOddHeadDimsOrRefusesThem", "does not rotate"},
    {"none", "AddsTheSameToEverything", "adds nothing to the embedding"},
    {"none", "AddsTheTablesRows", "needs no table"},
    {"none", "ChangesPartsOfTensorsInPlace", "changes neither embedding nor heads"},
    {"none", "EndsAtMaxPosition", "has no end"},
    {"none", "EndsWithItsTable", "needs no table"},
    {"none", "EveryHeadTurnsAlike", "does not rotate"},
    {"none", "FarPositionsAreFinite", "changes neither embedding nor heads"},
    {"none", "GivesBf16WithinItsPrecision", "changes neither embedding nor heads"},
    {"none", "GivesOneSlopePerHead", "does not bias scores"},
    {"none", "IsRepeatableToTheBit", "changes neither embedding nor heads"},
    {"none", "NeedsItsTable", "needs no table"},
    {"none", "PositionZeroTurnsNothing", "does not rotate"},
    {"none", "PositionsBelongToTokens", "changes neither embedding nor heads"},
    {"none", "RefusesTensorsOfOtherShapes", "changes neither embedding nor heads"},
    {"none", "RotationsAdd", "does not rotate"},
    {"none", "RotationsKeepNorms", "does not rotate"},
    {"none", "ScoresDependOnTheDistanceOnly", "does not rotate"},
    {"none", "ServesOddHeadDimsOrRefusesThem", "does not rotate"},
    {"paged", "StorageDoesNotGrowWithTheText", "is not bounded: storage may grow with the text"},
    {"preallocated", "StorageDoesNotGrowWithTheText",
     "is not bounded: storage may grow with the text"},
    {"rope", "AddsTheSameToEverything", "adds nothing to the embedding"},
    {"rope", "AddsTheTablesRows", "needs no table"},
    {"rope", "EndsAtMaxPosition", "has no end"},
    {"rope", "EndsWithItsTable", "needs no table"},
    {"rope", "GivesOneSlopePerHead", "does not bias scores"},
    {"rope", "NeedsItsTable", "needs no table"},
    {"sinks", "TruncatedForksDoNotTouchEachOther", "does not truncate to any length"},
    {"sinks", "TruncatingToAnyLengthIsAsIfNeverFed", "does not truncate to any length"},
    {"sinusoidal", "AddsTheTablesRows", "needs no table"},
    {"sinusoidal", "EndsAtMaxPosition", "has no end"},
    {"sinusoidal", "EndsWithItsTable", "needs no table"},
    {"sinusoidal", "EveryHeadTurnsAlike", "does not rotate"},
    {"sinusoidal", "GivesOneSlopePerHead", "does not bias scores"},
    {"sinusoidal", "KeysKeptBeforePositionComeOutRotated", "cannot be re-based"},
    {"sinusoidal", "NeedsItsTable", "needs no table"},
    {"sinusoidal", "PositionZeroTurnsNothing", "does not rotate"},
    {"sinusoidal", "RotationsAdd", "does not rotate"},
    {"sinusoidal", "RotationsKeepNorms", "does not rotate"},
    {"sinusoidal", "ScoresDependOnTheDistanceOnly", "does not rotate"},
    {"sinusoidal", "ServesOddHeadDimsOrRefusesThem", "does not rotate"},
};

// 2 and 3 neither divide each other nor multiply.
const std::vector<std::string> kRefused = {
    "gqa_shared_kv_heads_2_inner_paged_inner_block_size_3_bf16_G3",
    "gqa_shared_kv_heads_2_inner_paged_inner_block_size_3_f32_G3",
    "gqa_shared_kv_heads_2_inner_paged_inner_block_size_3_f32_G3_W4",
    "gqa_shared_kv_heads_3_bf16_G2",
    "gqa_shared_kv_heads_3_f32_G2",
};

std::vector<std::string> rows(const std::vector<LeftOut>& left_out) {
  std::vector<std::string> texts;
  for (const LeftOut& row : left_out) {
    texts.push_back("    {\"" + row.plugin + "\", \"" + row.test + "\", \"" + row.reason + "\"},");
  }
  std::sort(texts.begin(), texts.end());
  return texts;
}

std::string lines(const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) joined += text + "\n";
  return joined;
}

TEST(ConformanceCoverage, NothingIsLeftOutThatIsNotListedHere) {
  const Registry registry = shipped();
  EXPECT_EQ(lines(rows(survey_conformance(registry).left_out)), lines(rows(kLeftOut)));
}

TEST(ConformanceCoverage, NoOptionsAreRefusedThatAreNotListedHere) {
  const Registry registry = shipped();
  std::vector<std::string> refused = survey_conformance(registry).refused;
  std::vector<std::string> wanted = kRefused;
  std::sort(refused.begin(), refused.end());
  std::sort(wanted.begin(), wanted.end());
  EXPECT_EQ(lines(refused), lines(wanted));
}

TEST(ConformanceCoverage, EveryRegisteredCacheHasCasesOfEveryKind) {
  const Registry registry = shipped();
  const CacheCases cases = cache_cases(registry);
  EXPECT_TRUE(cases.useless.empty());
  for (const CacheEntry& entry : registry.caches()) {
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

TEST(ConformanceCoverage, OneNameChoosesOnePlugin) {
  const Registry registry = shipped();
  SuiteOptions options;
  options.plugins = {"paged"};
  const int64_t one = survey_conformance(registry, options).tests;
  EXPECT_GT(one, 0);
  EXPECT_LT(one, survey_conformance(registry).tests);
}

}  // namespace
}  // namespace kvlab::conformance

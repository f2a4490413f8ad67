// Every planted bug is killed by the property that the table names, and without a bug every
// property holds. With KVLAB_ALL_KILLERS set, everything that kills a mutant is printed (minutes).
#include "mutants.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>
#include <set>
#include <sstream>

#include "kvlab/conformance/cache_properties.h"
#include "kvlab/conformance/random_operations.h"

namespace kvlab::mutants {
namespace {

using conformance::CacheCase;
using conformance::CacheProperty;

const Registry& registry() {
  static const Registry* const made = [] {
    auto* filled = new Registry;
    register_builtin_plugins(*filled);
    register_mutants(*filled);
    return filled;
  }();
  return *made;
}

/// Every second case of a cache: both dtypes, 6 and 2 KV heads, a model with a window, and where
/// there are any, short steps. Mutants run on the cases on which the caches without a bug are sound.
std::vector<CacheCase> cases_of(const std::string& cache) {
  const std::vector<CacheCase> all = conformance::cache_cases(registry(), {cache}).cases;
  std::vector<CacheCase> chosen;
  for (size_t i = 0; i < all.size(); i += 2) chosen.push_back(all[i]);
  return chosen;
}

/// What the property says against the case; nothing where it holds or is not promised.
std::optional<std::string> failure(const CacheProperty& property, const CacheCase& chosen) {
  if (property.once_per_options && !chosen.first_of_options) return {};
  if (!property.not_promised(conformance::traits_of(registry(), chosen)).empty()) return {};
  try {
    property.run(registry(), chosen);
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

/// What the property says against the first case of the cache that it fails on.
std::optional<std::string> first_failure(const CacheProperty& property, const std::string& cache) {
  for (const CacheCase& chosen : cases_of(cache)) {
    if (auto found = failure(property, chosen)) return chosen.name + ": " + *found;
  }
  return {};
}

/// With short steps where the cache has such a case: only there does a ring wrap around.
CacheCase most_telling_case(const std::string& cache) {
  const std::vector<CacheCase> cases = cases_of(cache);
  return conformance::has_short_steps(cases.back()) ? cases.back() : cases.front();
}

/// What random operations find in the most telling case of the cache.
std::optional<std::string> random_failure(const std::string& cache) {
  constexpr uint64_t kSeed = 20260;
  constexpr int64_t kOperations = 2000;
  const CacheCase chosen = most_telling_case(cache);
  const CacheTraits traits = conformance::traits_of(registry(), chosen);
  return conformance::run_operations(
             registry(), chosen,
             conformance::random_operations(chosen, traits, kSeed, kOperations))
      .failure;
}

/// What kills the mutant in its most telling case besides the property that must.
std::vector<std::string> other_killers(const Mutant& mutant) {
  const std::string cache = registered_name(mutant);
  const CacheCase chosen = most_telling_case(cache);
  std::vector<std::string> names;
  for (const CacheProperty& property : conformance::cache_properties()) {
    if (std::string(property.name) == mutant.killed_by) continue;
    if (failure(property, chosen)) names.push_back(property.name);
  }
  if (random_failure(cache)) names.push_back("RandomOperations");
  return names;
}

std::string table() {
  std::ostringstream text;
  text << "| bug | killed by | what goes wrong | real bug of this kind |\n|---|---|---|---|\n";
  for (const Mutant& mutant : mutants()) {
    text << "| `" << mutant.name << "` | " << mutant.killed_by << " | " << mutant.story << " | "
         << mutant.real_bug << " |\n";
  }
  return text.str();
}

class Mutants : public testing::TestWithParam<Mutant> {
 protected:
  // Not a test of its own, so that it counts what a filter left.
  static void TearDownTestSuite() {
    std::cout << killed_ << "/" << tried_ << " mutants killed\n";
    EXPECT_EQ(killed_, tried_);
  }
  static inline int tried_ = 0, killed_ = 0;
};

TEST_P(Mutants, IsKilled) {
  const Mutant& mutant = GetParam();
  const CacheProperty* property = conformance::find_cache_property(mutant.killed_by);
  ++tried_;
  ASSERT_NE(property, nullptr) << "the kit has no property " << mutant.killed_by;
  const auto killed = first_failure(*property, registered_name(mutant));
  killed_ += killed ? 1 : 0;
  if (killed) {
    std::cout << mutant.name << " | " << mutant.killed_by << " | " << *killed << "\n";
  } else {
    ADD_FAILURE() << mutant.name << " survives " << mutant.killed_by << ": " << mutant.story;
  }
  if (killed && std::getenv("KVLAB_ALL_KILLERS") == nullptr) return;
  std::cout << mutant.name << " | others:";
  for (const std::string& name : other_killers(mutant)) std::cout << " " << name;
  std::cout << "\n";
}

INSTANTIATE_TEST_SUITE_P(, Mutants, testing::ValuesIn(mutants().begin(), mutants().end()),
                         [](const auto& information) { return information.param.name; });

class CachesWithoutABug : public testing::TestWithParam<std::string> {};

TEST_P(CachesWithoutABug, HaveEveryProperty) {
  for (const CacheCase& chosen : cases_of(GetParam())) {
    for (const CacheProperty& property : conformance::cache_properties()) {
      const auto found = failure(property, chosen);
      EXPECT_FALSE(found) << chosen.name << ", " << property.name << ": " << *found;
    }
  }
}

TEST_P(CachesWithoutABug, SurviveRandomOperations) {
  EXPECT_EQ(random_failure(GetParam()).value_or("nothing failed"), "nothing failed");
}

INSTANTIATE_TEST_SUITE_P(, CachesWithoutABug, testing::ValuesIn(sound_caches()),
                         [](const auto& information) { return information.param; });

TEST(MutantTable, HoldsFortyBugsOrMoreEachOnce) {
  std::set<std::string> names;
  std::set<Bug> bugs;
  for (const Mutant& mutant : mutants()) {
    names.insert(mutant.name);
    bugs.insert(mutant.bug);
  }
  EXPECT_EQ(names.size(), mutants().size());
  EXPECT_EQ(bugs.size(), mutants().size());
  EXPECT_GE(mutants().size(), 40U);
}

TEST(MutantTable, NamesEveryPropertyOfTheKit) {
  std::set<std::string> killers;
  for (const Mutant& mutant : mutants()) killers.insert(mutant.killed_by);
  for (const CacheProperty& property : conformance::cache_properties()) {
    EXPECT_TRUE(killers.contains(property.name)) << "no mutant dies of " << property.name;
  }
}

TEST(MutantTable, StandsInTheReadme) {
  std::ifstream file(KVLAB_SOURCE_DIR "/tests/conformance/mutants/README.md");
  std::stringstream readme;
  readme << file.rdbuf();
  EXPECT_NE(readme.str().find(table()), std::string::npos)
      << "put this table into tests/conformance/mutants/README.md:\n"
      << table();
}

}  // namespace
}  // namespace kvlab::mutants

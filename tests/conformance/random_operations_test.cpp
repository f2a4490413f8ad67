// The random driver finds a planted fault, makes it short, and is silent about sound caches.
#include "kvlab/conformance/random_operations.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "kvlab/core/error.h"
#include "tests/conformance/forgetful_plugin/forgetful_cache.h"

namespace kvlab::conformance {
namespace {

using Kind = Operation::Kind;

Registry with_forgetful_cache() {
  Registry registry;
  register_builtin_plugins(registry);
  register_forgetful_cache(registry);
  return registry;
}

CacheCase forgetful_case(const std::string& options) {
  CacheCase made;
  made.plugin = "forgetful";
  made.spec = "forgetful:" + options;
  made.name = "forgetful" + option_label(options);
  made.shape = small_shape();
  return made;
}

CacheTraits all_promised() {
  CacheTraits traits;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  return traits;
}

int64_t fed_tokens(const std::vector<Operation>& operations) {
  int64_t sum = 0;
  for (const Operation& operation : operations) {
    for (const int64_t tokens : operation.tokens) sum += std::max<int64_t>(0, tokens);
  }
  return sum;
}

std::string lines(const std::vector<Operation>& operations) {
  std::string text;
  for (const Operation& operation : operations) text += to_text(operation) + "\n";
  return text;
}

/// A folder that is gone with the test.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("kvlab_random_operations_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(RandomOperations, TheSameSeedGivesTheSameSequence) {
  const CacheCase chosen = forgetful_case("fault=none");
  const auto sequence = [&](uint64_t seed) {
    return random_operations(chosen, all_promised(), seed, 300);
  };
  EXPECT_EQ(sequence(5), sequence(5));
  EXPECT_NE(sequence(5), sequence(6));
  EXPECT_EQ(sequence(5).size(), 300U);
}

TEST(RandomOperations, EveryKindOfOperationHappens) {
  std::set<Kind> kinds;
  for (const Operation& operation :
       random_operations(forgetful_case("fault=none"), all_promised(), 1, 2000)) {
    kinds.insert(operation.kind);
  }
  EXPECT_EQ(kinds.size(), operation_kinds().size());
}

TEST(RandomOperations, OnlyPromisedOperationsHappen) {
  for (const Operation& operation :
       random_operations(forgetful_case("fault=none"), CacheTraits{}, 1, 2000)) {
    EXPECT_TRUE(promised(operation.kind, CacheTraits{})) << to_text(operation);
    EXPECT_NE(operation.kind, Kind::fork);
    EXPECT_NE(operation.kind, Kind::truncate);
  }
}

TEST(RandomOperations, RowsAreOftenEmptyAndOftenFull) {
  const Registry registry = with_forgetful_cache();
  const CacheCase chosen = forgetful_case("fault=none");
  int64_t empty = 0, full = 0, seen = 0;
  const auto count = [&](const Operation&, const std::vector<int64_t>& lengths,
                         const std::string*) {
    for (const int64_t length : lengths) {
      ++seen;
      if (length == 0) ++empty;
      if (length == chosen.shape.max_length) ++full;
    }
  };
  const OperationRun run = run_operations(
      registry, chosen, random_operations(chosen, all_promised(), 3, 1000), count);
  EXPECT_EQ(run.failure, std::nullopt);
  EXPECT_EQ(run.passed, 1000);
  EXPECT_GT(empty, seen / 20);
  EXPECT_GT(full, seen / 20);
}

// What is found of each fault, and how short it becomes.
struct Expected {
  const char* fault;
  size_t operations;
  int64_t tokens;
};

class PlantedFault : public testing::TestWithParam<Expected> {};

TEST_P(PlantedFault, IsFoundMadeShortAndReplayed) {
  const Registry registry = with_forgetful_cache();
  const CacheCase chosen = forgetful_case(std::string("fault=") + GetParam().fault);
  const std::vector<Operation> found = random_operations(chosen, all_promised(), 11, 2000);
  ASSERT_TRUE(run_operations(registry, chosen, found).failure.has_value());
  const std::vector<Operation> shortened = shrink_operations(registry, chosen, found);
  EXPECT_LE(shortened.size(), GetParam().operations) << lines(shortened);
  EXPECT_LE(fed_tokens(shortened), GetParam().tokens) << lines(shortened);

  const Replay replay = read_replay(write_replay({chosen, 11, shortened, "what failed"}));
  EXPECT_EQ(lines(replay.operations), lines(shortened));
  EXPECT_TRUE(run_operations(registry, replay.chosen, replay.operations).failure.has_value());
  const CacheCase sound = forgetful_case("fault=none");
  EXPECT_EQ(run_operations(registry, sound, replay.operations).failure, std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(RandomOperations, PlantedFault,
                         testing::Values(Expected{"fork", 2, 1}, Expected{"truncate", 2, 1},
                                         Expected{"number", 1, 0}),
                         [](const auto& chosen) { return chosen.param.fault; });

TEST(RandomOperations, AFailureLeavesAFileAndTheCommandThatRunsItAgain) {
  const Registry registry = with_forgetful_cache();
  const CacheCase chosen = forgetful_case("fault=truncate");
  const TemporaryFolder folder;
  const auto message =
      check_random_operations(registry, chosen, 7, 4000, (folder.path() / "new").string());
  ASSERT_TRUE(message.has_value());
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path() / "new")) {
    files.push_back(entry.path());
  }
  ASSERT_EQ(files.size(), 1U);
  EXPECT_NE(message->find("length of row"), std::string::npos) << *message;
  EXPECT_NE(message->find("of seed 7"), std::string::npos) << *message;
  EXPECT_NE(message->find(" --replay " + files[0].string()), std::string::npos) << *message;
  std::ifstream stream(files[0]);
  const Replay replay = read_replay({std::istreambuf_iterator<char>(stream), {}});
  EXPECT_TRUE(run_operations(registry, replay.chosen, replay.operations).failure.has_value());
}

TEST(RandomOperations, AFolderThatCannotBeWrittenCostsNoReplay) {
  const Registry registry = with_forgetful_cache();
  const auto message = check_random_operations(registry, forgetful_case("fault=number"), 7, 2000,
                                               "/dev/null/here");
  ASSERT_TRUE(message.has_value());
  EXPECT_NE(message->find("could not be written to /dev/null/here"), std::string::npos) << *message;
  EXPECT_NE(message->find("\ncache forgetful:fault=number\n"), std::string::npos) << *message;
}

TEST(RandomOperations, ACacheThatCannotBeMadeIsAFailure) {
  const Registry registry = with_forgetful_cache();
  const CacheCase chosen = forgetful_case("inner=missing");
  const OperationRun run = run_operations(registry, chosen, {Operation{}});
  ASSERT_TRUE(run.failure.has_value());
  EXPECT_TRUE(run.failure->starts_with("making the cache: ")) << *run.failure;
}

TEST(RandomOperations, EveryPartOfASequenceIsValid) {
  const Registry registry = with_forgetful_cache();
  const CacheCase chosen = forgetful_case("fault=none,inner=paged");
  const std::vector<Operation> whole = random_operations(chosen, all_promised(), 23, 240);
  for (size_t kept = 0; kept < 4; ++kept) {
    std::vector<Operation> part;
    for (size_t i = 0; i < whole.size(); ++i) {
      if (i % 4 == kept) part.push_back(whole[i]);
    }
    EXPECT_EQ(run_operations(registry, chosen, part).failure, std::nullopt) << kept;
  }
}

TEST(RandomOperations, ARefusalIsAllowedOnlyWhereTheEstimateSeesNoRoom) {
  const Registry registry = with_forgetful_cache();
  // 6 blocks of 8 tokens for three rows of up to 40.
  const CacheCase chosen =
      forgetful_case("fault=none,inner=paged,inner.block_size=8,inner.max_blocks=6");
  Operation step;
  step.tokens = {40, -1, -1};
  Operation second = step;
  second.tokens = {-1, 9, -1};
  EXPECT_EQ(run_operations(registry, chosen, {step, second}).failure, std::nullopt);
  EXPECT_EQ(run_operations(registry, chosen, random_operations(chosen, all_promised(), 4, 600))
                .failure,
            std::nullopt);
}

}  // namespace
}  // namespace kvlab::conformance

// A large sweep, killed several times, merges into the table of one that was not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <iostream>
#include <random>

#include "tests/survival/ledger.h"
#include "tests/survival/tiny_sweeps.h"

namespace kvlab::survival {
namespace {

using testing::IsEmpty;

TEST(ManyCases, KilledAndResumedGiveTheTableOfAnUninterruptedSweep) {
  const int64_t prompts = is_long_mode() ? 100 : 10, cases = 10 * prompts, kills = 6;
  const Lines axes = {"~sweep", "-m", "arms.paged.cache.block_size=range(1,11,1)", "-m",
                      "workload.prompt.random=range(0," + std::to_string(prompts) + ",1)"};
  Lines wrong;
  const CleanRun clean = run_cleanly(wrong, axes, cases);
  ASSERT_THAT(wrong, IsEmpty());

  constexpr uint64_t kSeed = 41;
  std::minstd_rand random(kSeed);
  const TestFolder folder;
  const std::string runs = folder.path() + "/runs", log = folder.path() + "/operations";
  Ledger ledger(cases);
  for (int64_t process = 0; process <= kills; ++process) {
    const std::string sweep = planned_sweep(runs);
    Fault fault;
    // At most a part each, so that the last one too is killed; the first has the planning in it.
    const int64_t part = clean.size() / (kills + 1);
    fault.at = process == kills ? 0 : part / 2 + static_cast<int64_t>(random()) % (part / 2);
    if (process == 0) fault.at += part / 2;
    const ProgramResult result =
        run_watched(fault, runs, log,
                    sweep.empty() ? start_sweep(runs, axes) : resume_sweep(sweep), 600);
    ASSERT_EQ(result.exit_code, process == kills ? 0 : 128 + SIGKILL)
        << "seed " << kSeed << ", process " << process << ": " << result.err;
    ASSERT_THAT(ledger.record(planned_sweep(runs)), IsEmpty()) << "seed " << kSeed;
  }
  EXPECT_THAT(ledger.judge_end(planned_sweep(runs), read_operations(log)), IsEmpty());
  const std::string table = untimed_lines(read_whole(planned_sweep(runs) + "/table.csv"));
  EXPECT_TRUE(table == clean.table) << "seed " << kSeed;
  std::cout << cases << " cases, " << kills << " kills, " << table.size() << " bytes of the table "
            << "do not come from a clock\n";
}

}  // namespace
}  // namespace kvlab::survival

// A sweep that is killed at any operation goes on with --resume: no trial is lost, run again or
// changed. Judged by the tests' own ledger and by the operations that the fault library has seen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>

#include "tests/survival/ledger.h"
#include "tests/survival/tiny_sweeps.h"

namespace kvlab::survival {
namespace {

using testing::IsEmpty;
using Lines = std::vector<std::string>;

/// One sweep, killed once or several times until it is done.
class KilledSweep {
 public:
  KilledSweep(const CleanRun& clean, uint64_t seed) : clean_(clean), seed_(seed), random_(seed) {}

  /// Kills at operation `first` of the first process, then most of the following ones. Returns what
  /// is wrong.
  Lines run(int64_t first) {
    Fault fault{first, random_() % 2 == 0 ? "kill" : "torn"};
    for (int processes = 1; processes <= 20 && wrong_.empty(); ++processes) {
      const std::string sweep = planned_sweep(runs_);
      const auto words = sweep.empty() ? start_sweep(runs_) : resume_sweep(sweep);
      const ProgramResult result = run_program(under_fault(fault, runs_, log_, words));
      const std::string found = planned_sweep(runs_);
      if (!found.empty()) append(wrong_, ledger_.record(found));
      if (result.exit_code == 128 + SIGKILL && fault.at > 0) {
        ++kills_;
      } else {
        if (result.exit_code != 0 || found.empty()) {
          wrong_.push_back("exit code " + std::to_string(result.exit_code) + ": " + result.err);
        } else {
          judge_end(found);
        }
        return tell(first);
      }
      // A third of the processes that go on are left alone; the others may be killed as well.
      const int64_t left = 1 + operations() * (kTrials - ledger_.complete()) / kTrials;
      fault.at = random_() % 3 == 0 ? 0 : 1 + static_cast<int64_t>(random_()) % left;
      fault.action = random_() % 2 == 0 ? "kill" : "torn";
    }
    if (wrong_.empty()) wrong_.push_back("not done after 20 processes");
    return tell(first);
  }

  int kills() const { return kills_; }

 private:
  int64_t operations() const { return static_cast<int64_t>(clean_.operations.size()); }

  void judge_end(const std::string& sweep) {
    append(wrong_, ledger_.judge_end(sweep, read_operations(log_)));
    if (untimed_lines(read_whole(sweep + "/table.csv")) != clean_.table) {
      wrong_.push_back("the merged table differs from that of a clean run");
    }
  }

  Lines tell(int64_t first) const {
    Lines lines;
    for (const std::string& line : wrong_) {
      lines.push_back("seed " + std::to_string(seed_) + ", first kill at " + std::to_string(first) +
                      ": " + line);
    }
    return lines;
  }

  const CleanRun& clean_;
  const uint64_t seed_;
  std::minstd_rand random_;
  const TestFolder folder_;
  const std::string runs_ = folder_.path() + "/runs", log_ = folder_.path() + "/operations";
  Ledger ledger_{kTrials};
  Lines wrong_;
  int kills_ = 0;
};

TEST(KilledSweep, LosesRepeatsAndChangesNoTrial) {
  const int wanted = is_long_mode() ? 2000 : 200;
  Lines wrong;
  const CleanRun clean = run_cleanly(wrong);
  ASSERT_THAT(wrong, IsEmpty());
  const auto operations = static_cast<int64_t>(clean.operations.size());
  ASSERT_GT(operations, 300);
  ASSERT_FALSE(clean.table.empty());

  // First kills go evenly over all operations; the golden ratio spreads any number of them so.
  std::atomic<int> kills = 0, sweeps = 0;
  std::mutex mutex;
  const auto work = [&] {
    while (kills < wanted) try {
        const int number = sweeps++;
        const double place = std::fmod(0.5 + number * 0.6180339887498949, 1.0);
        KilledSweep sweep(clean, 1000 + static_cast<uint64_t>(number));
        const Lines found =
            sweep.run(1 + static_cast<int64_t>(place * static_cast<double>(operations)));
        kills += sweep.kills();
        const std::lock_guard lock(mutex);
        append(wrong, found);
        if (wrong.size() > 20) kills = wanted;
      } catch (const std::exception& error) {
        const std::lock_guard lock(mutex);
        wrong.push_back(error.what());
        kills = wanted;
      }
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_THAT(wrong, IsEmpty());
  EXPECT_GE(kills, wanted);
  std::cout << kills << " kills in " << sweeps << " sweeps of " << operations << " operations\n";
}

TEST(KilledSweep, LeavesNoNameThatStopsTheNextOneOfTheSameSecond) {
  Lines wrong;
  const CleanRun clean = run_cleanly(wrong);
  ASSERT_THAT(wrong, IsEmpty());
  // The planned folder gets its final name: before that, the name is free for a moment.
  Fault fault;
  for (const Operation& operation : clean.operations) {
    ++fault.at;
    if (operation.call == "rename" && operation.path.ends_with(".partial") &&
        operation.new_path.find("/cases/") == std::string::npos &&
        operation.new_path.find(".json") == std::string::npos) {
      break;
    }
  }
  ASSERT_EQ(clean.operations[static_cast<size_t>(fault.at) - 1].call, "rename");
  for (int i = 0; i < 4; ++i) {  // mostly both start within one second
    const TestFolder folder;
    const std::string runs = folder.path() + "/runs", log = folder.path() + "/operations";
    EXPECT_EQ(run_program(under_fault(fault, runs, log, start_sweep(runs))).exit_code,
              128 + SIGKILL);
    EXPECT_EQ(planned_sweep(runs), "");
    const ProgramResult next = run_program(under_fault({}, runs, log, start_sweep(runs)));
    EXPECT_EQ(next.exit_code, 0) << next.err;
  }
}

TEST(KilledSweep, FlushesAllBelowANameBeforeItGivesIt) {
  const TestFolder folder;
  const std::string runs = folder.path() + "/runs", log = folder.path() + "/operations";
  const ProgramResult result = run_program(under_fault({}, runs, log, start_sweep(runs)));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<Operation> operations = read_operations(log);
  EXPECT_GT(operations.size(), 300u);
  EXPECT_THAT(unflushed_names(operations, runs), IsEmpty());
}

}  // namespace
}  // namespace kvlab::survival

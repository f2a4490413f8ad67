// A sweep that is killed at any operation goes on with --resume: no trial is lost, run again or
// changed. Judged by the tests' own ledger and by the operations that the fault library has seen.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <mutex>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
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
  Lines run(int64_t first) try {
    first_ = first;
    Fault fault{first, random_() % 2 == 0 ? "kill" : "torn"};
    for (int processes = 1; processes <= 20 && wrong_.empty(); ++processes) {
      const std::string sweep = planned_sweep(runs_);
      const auto words = sweep.empty() ? start_sweep(runs_) : resume_sweep(sweep);
      const ProgramResult result = run_watched(fault, runs_, log_, words);
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
        return tell();
      }
      // A third of the processes that go on are left alone; the others may be killed as well.
      const int64_t left = 1 + operations() * (kTrials - ledger_.complete()) / kTrials;
      fault.at = random_() % 3 == 0 ? 0 : 1 + static_cast<int64_t>(random_()) % left;
      fault.action = random_() % 2 == 0 ? "kill" : "torn";
    }
    if (wrong_.empty()) wrong_.push_back("not done after 20 processes");
    return tell();
  } catch (const std::exception& error) {
    wrong_.push_back(error.what());
    return tell();
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

  // Complaints with what replays them, and where what they are about is kept.
  Lines tell() {
    Lines lines;
    for (const std::string& line : wrong_) {
      lines.push_back("seed " + std::to_string(seed_) + ", first kill at " +
                      std::to_string(first_) + " of " + std::to_string(operations()) + ": " + line);
    }
    if (lines.empty()) return lines;
    folder_.keep();
    lines.push_back("kept in " + folder_.path() + "; the last lines of the log:\n" +
                    last_lines(log_, 10));
    return lines;
  }

  const CleanRun& clean_;
  const uint64_t seed_;
  std::minstd_rand random_;
  TestFolder folder_;
  const std::string runs_ = folder_.path() + "/runs", log_ = folder_.path() + "/operations";
  Ledger ledger_{kTrials};
  Lines wrong_;
  int64_t first_ = 0;
  int kills_ = 0;
};

/// A sweep to be run again: KVLAB_SURVIVAL_REPLAY=seed,kill,operations,times, with the
/// numbers of its complaint.
struct Replay {
  int64_t seed = 0, first = 0, operations = 0, times = 1;
};

std::optional<Replay> read_replay() {
  const char* text = std::getenv("KVLAB_SURVIVAL_REPLAY");
  if (text == nullptr) return std::nullopt;
  Replay replay;
  char comma = 0;
  std::istringstream words(text);
  words >> replay.seed >> comma >> replay.first >> comma >> replay.operations;
  if (!words) throw std::runtime_error("KVLAB_SURVIVAL_REPLAY wants seed,kill,operations[,times]");
  if (words >> comma) words >> replay.times;
  return replay;
}

/// Calls `sweep` for 0, 1, ... from two threads while it returns true. Returns the complaints, at
/// most some more than 20.
Lines run_many(const std::function<bool(int, Lines&)>& sweep) {
  std::atomic<int> next = 0;
  std::mutex mutex;
  Lines wrong;
  const auto work = [&] {
    for (bool more = true; more;) {
      Lines found;
      try {
        more = sweep(next++, found);
      } catch (const std::exception& error) {
        found.push_back(error.what());
      }
      const std::lock_guard lock(mutex);
      append(wrong, found);
      more = more && wrong.size() <= 20;
    }
  };
  std::thread other(work);
  work();
  other.join();
  return wrong;
}

TEST(KilledSweep, LosesRepeatsAndChangesNoTrial) {
  const int wanted = is_long_mode() ? 2000 : 200;
  Lines wrong;
  CleanRun clean = run_cleanly(wrong);
  ASSERT_THAT(wrong, IsEmpty());
  const auto operations = clean.size();
  ASSERT_GT(operations, 300);
  ASSERT_FALSE(clean.table.empty());

  std::atomic<int> kills = 0, sweeps = 0;
  if (const auto replay = read_replay()) {
    clean.operations.resize(static_cast<size_t>(replay->operations));
    wrong = run_many([&](int number, Lines& found) {
      if (number >= replay->times) return false;
      KilledSweep sweep(clean, static_cast<uint64_t>(replay->seed));
      found = sweep.run(replay->first);
      kills += sweep.kills();
      ++sweeps;
      return true;
    });
    EXPECT_THAT(wrong, IsEmpty());
    std::cout << kills << " kills in " << sweeps << " replays\n";
    return;
  }
  // First kills go evenly over all operations; the golden ratio spreads any number of them so.
  wrong = run_many([&](int number, Lines& found) {
    if (kills >= wanted) return false;
    const double place = std::fmod(0.5 + number * 0.6180339887498949, 1.0);
    KilledSweep sweep(clean, 1000 + static_cast<uint64_t>(number));
    found = sweep.run(1 + static_cast<int64_t>(place * static_cast<double>(operations)));
    kills += sweep.kills();
    ++sweeps;
    return true;
  });
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
    EXPECT_EQ(run_watched(fault, runs, log, start_sweep(runs)).exit_code,
              128 + SIGKILL);
    EXPECT_EQ(planned_sweep(runs), "");
    const ProgramResult next = run_watched({}, runs, log, start_sweep(runs));
    EXPECT_EQ(next.exit_code, 0) << next.err;
  }
}

TEST(KilledSweep, FlushesAllBelowANameBeforeItGivesIt) {
  const TestFolder folder;
  const std::string runs = folder.path() + "/runs", log = folder.path() + "/operations";
  const ProgramResult result = run_watched({}, runs, log, start_sweep(runs));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<Operation> operations = read_operations(log);
  EXPECT_GT(operations.size(), 300u);
  EXPECT_THAT(unflushed_names(operations, runs), IsEmpty());
}

}  // namespace
}  // namespace kvlab::survival

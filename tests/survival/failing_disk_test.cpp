// A sweep on a disk that is full or broken, once or for good, and one that the user stops: it ends
// with a message, and a later --resume completes it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/survival/ledger.h"
#include "tests/survival/tiny_sweeps.h"

namespace kvlab::survival {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

/// One sweep that meets a fault in its first process and is resumed without any.
class ResumedSweep {
 public:
  explicit ResumedSweep(const Fault& fault) {
    first = run_watched(fault, runs_, log_, start_sweep(runs_));
    for (const Operation& operation : read_operations(log_)) met_fault |= operation.refused;
    note();
  }

  /// Goes on until the end. A sweep whose planning was hit is started anew.
  void complete(const CleanRun& clean) {
    const std::string sweep = planned_sweep(runs_);
    const auto words = sweep.empty() ? start_sweep(runs_) : resume_sweep(sweep);
    const ProgramResult last = run_watched({}, runs_, log_, words);
    if (last.exit_code != 0) {
      wrong.push_back("not completed: exit code " + std::to_string(last.exit_code) + ": " +
                      last.err);
    }
    note();
    append(wrong, ledger_.judge_end(planned_sweep(runs_), read_operations(log_)));
    if (untimed_lines(read_whole(planned_sweep(runs_) + "/table.csv")) != clean.table) {
      wrong.push_back("the merged table differs from that of a clean run");
    }
  }

  std::string status() const {
    const std::string text = read_whole(planned_sweep(runs_) + "/sweep.json");
    return nlohmann::json::parse(text, nullptr, false).value("status", "");
  }

  bool is_planned() const { return !planned_sweep(runs_).empty(); }

  ProgramResult first;
  bool met_fault = false;  ///< the first process came to it
  Lines wrong;

 private:
  void note() {
    const std::string sweep = planned_sweep(runs_);
    if (!sweep.empty()) append(wrong, ledger_.record(sweep));
  }

  const TestFolder folder_;
  const std::string runs_ = folder_.path() + "/runs", log_ = folder_.path() + "/operations";
  Ledger ledger_{kTrials};
};

class FailingDisk : public testing::Test {
 protected:
  void SetUp() override {
    static CleanRun known;
    if (known.operations.empty()) {
      Lines wrong;
      known = run_cleanly(wrong);
      ASSERT_THAT(wrong, IsEmpty());
    }
    clean_ = &known;
  }

  /// Some operations of a clean run, evenly from the first to the last.
  std::vector<int64_t> some_operations(int64_t count) const {
    if (is_long_mode()) count *= 10;
    std::vector<int64_t> places;
    for (int64_t i = 0; i < count; ++i)
      places.push_back(1 + i * (clean_->size() - 1) / (count - 1));
    return places;
  }

  static std::string place(const Fault& fault) {
    return fault.action + " at operation " + std::to_string(fault.at) + " " + fault.calls;
  }

  static void expect_told(const ProgramResult& result) {
    EXPECT_THAT(result.exit_code, AnyOf(1, 2)) << result.err;
    EXPECT_THAT(result.err, AnyOf(HasSubstr("No space left"), HasSubstr("Input/output error")));
    EXPECT_THAT(result.err, HasSubstr("/runs")) << "a message names the path";
    EXPECT_THAT(result.err, Not(HasSubstr("terminate called")));
  }

  const CleanRun* clean_ = nullptr;
};

TEST_F(FailingDisk, OneFailureStopsTheSweepOrHarmsNothing) {
  for (const std::string error : {"ENOSPC", "EIO"}) {
    for (const int64_t at : some_operations(12)) {
      const Fault fault{at, error};
      SCOPED_TRACE(place(fault));
      ResumedSweep sweep(fault);
      if (sweep.first.exit_code != 0) expect_told(sweep.first);
      sweep.complete(*clean_);
      EXPECT_THAT(sweep.wrong, IsEmpty()) << sweep.first.err;
    }
  }
}

TEST_F(FailingDisk, EachKindOfCallMayFailInTheMiddleOfACase) {
  for (const std::string call : {"write", "open", "fsync", "rename", "mkdir"}) {
    int64_t number = 0;
    for (const Operation& operation : clean_->operations) number += operation.call == call ? 1 : 0;
    const Fault fault{number / 2, "ENOSPC", false, call};
    SCOPED_TRACE(place(fault));
    ResumedSweep sweep(fault);
    expect_told(sweep.first);
    sweep.complete(*clean_);
    EXPECT_THAT(sweep.wrong, IsEmpty()) << sweep.first.err;
  }
}

TEST_F(FailingDisk, FullForGoodItEndsWithAMessageAndIsCompletedLater) {
  int met = 0;
  for (const std::string error : {"ENOSPC", "EIO"}) {
    for (const int64_t at : some_operations(8)) {
      const Fault fault{at, error, true};
      SCOPED_TRACE(place(fault));
      ResumedSweep sweep(fault);
      // A heartbeat less than in the clean run, and the last operations are not there.
      if (sweep.met_fault) expect_told(sweep.first);
      met += sweep.met_fault ? 1 : 0;
      sweep.complete(*clean_);
      EXPECT_THAT(sweep.wrong, IsEmpty()) << sweep.first.err;
    }
  }
  EXPECT_GE(met, 14);
}

TEST_F(FailingDisk, InterruptedAnywhereItKeepsWhatIsDone) {
  int interrupted = 0;
  for (const int64_t at : some_operations(10)) {
    const Fault fault{at, "interrupt"};
    SCOPED_TRACE(place(fault));
    ResumedSweep sweep(fault);
    EXPECT_THAT(sweep.first.exit_code, AnyOf(0, 130)) << sweep.first.err;
    if (sweep.first.exit_code == 130) {
      ++interrupted;
      EXPECT_THAT(sweep.first.err, HasSubstr("nterrupted"));
      if (sweep.is_planned()) {
        EXPECT_THAT(sweep.first.err, HasSubstr("--resume"));
        EXPECT_EQ(sweep.status(), "interrupted");
      }
    }
    sweep.complete(*clean_);
    EXPECT_THAT(sweep.wrong, IsEmpty()) << sweep.first.err;
  }
  EXPECT_GE(interrupted, 8) << "only the last case cannot be interrupted";
}

}  // namespace
}  // namespace kvlab::survival

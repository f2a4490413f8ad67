// `--launcher slurm` against a real Slurm on this machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/survival/ledger.h"
#include "tests/survival/slurm_service.h"
#include "tests/survival/tiny_sweeps.h"

namespace kvlab::survival {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Slurm : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    hindrance_ = SlurmService::hindrance();
    if (!hindrance_.empty()) return;
    try {
      service_ = std::make_unique<SlurmService>();
    } catch (const std::runtime_error& error) {
      hindrance_ = error.what();
    }
  }
  static void TearDownTestSuite() { service_.reset(); }

  void SetUp() override {
    if (!hindrance_.empty()) GTEST_SKIP() << hindrance_;
  }

  /// What sbatch answered to is in `out`: the number of the first job.
  static std::string first_job(const std::string& out) {
    const size_t start = out.find("job ") + 4;
    return out.substr(start, out.find(':', start) - start);
  }

  nlohmann::json status() const {
    const std::string text = read_whole(planned_sweep(runs_) + "/sweep.json");
    return nlohmann::json::parse(text, nullptr, false);
  }

  std::string job_logs() const {
    std::string text = service_->logs();
    std::error_code none;
    const std::string folder = planned_sweep(runs_) + "/slurm";
    for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
      text += entry.path().filename().string() + ":\n" + read_whole(entry.path().string());
    }
    return text;
  }

  static inline std::unique_ptr<SlurmService> service_;
  static inline std::string hindrance_;
  const Lines launch_ = {"--launcher",          "slurm", "--partition",     "test", "--time", "5",
                         "--array-parallelism", "2",     "--cpus-per-task", "1"};
  const TestFolder folder_;
  const std::string runs_ = folder_.path() + "/runs";
  Ledger ledger_{kTrials};
};

TEST_F(Slurm, RunsEachCaseAsATaskOfAnArrayAndMergesAfterwards) {
  Lines wrong;
  const CleanRun clean = run_cleanly(wrong);
  ASSERT_THAT(wrong, IsEmpty());
  const ProgramResult launched = service_->run(start_sweep(runs_, launch_));
  ASSERT_EQ(launched.exit_code, 0) << launched.err;
  EXPECT_THAT(launched.out, HasSubstr("cases-0.sh"));
  EXPECT_THAT(launched.out, HasSubstr("aggregate.sh"));
  ASSERT_TRUE(service_->wait_until_idle(90)) << job_logs();
  EXPECT_THAT(ledger_.record(planned_sweep(runs_)), IsEmpty());
  EXPECT_EQ(ledger_.complete(), kTrials) << job_logs();
  EXPECT_EQ(status().value("status", ""), "ok") << job_logs();
  EXPECT_EQ(untimed_lines(read_whole(planned_sweep(runs_) + "/table.csv")), clean.table);
}

TEST_F(Slurm, MergesAfterACancelledTaskAndRunsOnlyThatOneLater) {
  Lines one_at_a_time = launch_;
  one_at_a_time[7] = "1";
  const ProgramResult launched = service_->run(start_sweep(runs_, one_at_a_time));
  ASSERT_EQ(launched.exit_code, 0) << launched.err;
  const std::string last_task = first_job(launched.out) + "_5";
  ASSERT_EQ(service_->run({"/usr/bin/scancel", last_task}).exit_code, 0) << last_task;
  ASSERT_TRUE(service_->wait_until_idle(90)) << job_logs();
  const std::string sweep = planned_sweep(runs_);
  EXPECT_THAT(ledger_.record(sweep), IsEmpty());
  EXPECT_EQ(ledger_.complete(), kTrials - 1) << job_logs();
  EXPECT_EQ(status().value("status", ""), "failed");
  EXPECT_THAT(read_whole(sweep + "/table.csv"), HasSubstr("missing"));

  Lines again = resume_sweep(sweep);
  append(again, launch_);
  const ProgramResult resumed = service_->run(again);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_THAT(read_whole(sweep + "/slurm/cases-0.sh"), HasSubstr("--array=5%2\n"));
  ASSERT_TRUE(service_->wait_until_idle(90)) << job_logs();
  EXPECT_THAT(ledger_.record(sweep), IsEmpty()) << "the other trials are as they were";
  EXPECT_EQ(ledger_.complete(), kTrials) << job_logs();
  EXPECT_EQ(status().value("status", ""), "ok") << job_logs();
  EXPECT_THAT(read_whole(sweep + "/table.csv"), Not(HasSubstr("missing")));
}

TEST_F(Slurm, EmitsTheScriptsThatSbatchTakesAndSubmitsNone) {
  Lines emit = launch_;
  emit.push_back("--emit-only");
  const ProgramResult printed = service_->run(start_sweep(runs_, emit));
  EXPECT_EQ(printed.exit_code, 0) << printed.err;
  EXPECT_THAT(printed.out, HasSubstr("#SBATCH --array=0-5%2"));
  EXPECT_THAT(printed.out, HasSubstr("#SBATCH --partition=test"));
  EXPECT_EQ(service_->run({"/usr/bin/squeue", "-h"}).out, "");
  const std::string script = planned_sweep(runs_) + "/slurm/cases-0.sh";
  EXPECT_EQ(service_->run({"/usr/bin/sbatch", "--test-only", script}).exit_code, 0);
  EXPECT_THAT(ledger_.record(planned_sweep(runs_)), IsEmpty());
  EXPECT_EQ(ledger_.complete(), 0);
}

}  // namespace
}  // namespace kvlab::survival

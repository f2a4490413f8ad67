#include "kvlab/runtime/contention.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace kvlab {
namespace {

constexpr int64_t kMillisecond = 1'000'000, kSecond = 1'000'000'000;
const std::vector<int64_t> kEven(30, 10 * kMillisecond);

Contention busy() {
  Contention found;
  found.wall_ns = 300 * kMillisecond;
  found.cpu_ns = 500 * kMillisecond;
  return found;
}

Contention judged(Contention found, const std::vector<int64_t>& gaps = kEven) {
  judge_contention(found, 31, gaps);
  return found;
}

TEST(Contention, AQuietSampleIsNotFlagged) {
  Contention found = busy();
  found.involuntary_switches = 30;
  found.steal_share = 0.05;
  EXPECT_FALSE(judged(found).contended);
  EXPECT_FALSE(judged(found).suspended);
}

TEST(Contention, EachDisturbanceFlagsTheSample) {
  Contention found = busy();
  found.involuntary_switches = 31;
  EXPECT_TRUE(judged(found).contended) << "a core lost in every step";
  found = busy();
  found.steal_share = 0.06;
  EXPECT_TRUE(judged(found).contended) << "the host took processor time";
  found = busy();
  found.load = 2.1 * std::max(1u, std::thread::hardware_concurrency());
  EXPECT_TRUE(judged(found).contended) << "load";
}

TEST(Contention, AStandstillIsToldFromASlowStep) {
  std::vector<int64_t> gaps = kEven;
  gaps[7] = kSecond + kMillisecond;
  EXPECT_TRUE(judged(busy(), gaps).suspended);
  EXPECT_TRUE(judged(busy(), gaps).contended);
  gaps[7] = 900 * kMillisecond;
  EXPECT_FALSE(judged(busy(), gaps).suspended) << "below a second";
  const std::vector<int64_t> slow(5, 2 * kSecond);
  EXPECT_FALSE(judged(busy(), slow).suspended) << "every step is that slow";
  Contention idle = busy();
  idle.wall_ns = 3 * kSecond;
  idle.cpu_ns = kSecond;
  EXPECT_TRUE(judged(idle).suspended) << "nothing computed for two of three seconds";
  idle.involuntary_switches = 300;
  EXPECT_FALSE(judged(idle).suspended) << "it waited for a core";
  EXPECT_TRUE(judged(idle).contended);
  idle.involuntary_switches = 0;
  idle.cpu_ns = 2 * kSecond;
  EXPECT_FALSE(judged(idle).suspended);
}

TEST(Contention, LongStepsLoseACoreNowAndThenWithoutANeighbour) {
  Contention found = busy();
  found.wall_ns = found.cpu_ns = 2 * kSecond;
  found.involuntary_switches = 149;
  EXPECT_FALSE(judged(found).contended) << "below 75 per second";
  found.involuntary_switches = 150;
  EXPECT_TRUE(judged(found).contended);
}

// A process of its own, since a stopped one cannot wake itself.
TEST(Contention, AStoppedProcessSeesThatItStoodStill) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const ContentionMeter meter;
    raise(SIGSTOP);
    _exit(meter.finish(1, {}).suspended ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));
  kill(child, SIGCONT);
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(Contention, AMeterCountsWhatPassesBetween) {
  const ContentionMeter meter;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
  while (std::chrono::steady_clock::now() < until) {
  }
  const Contention found = meter.finish(1'000'000, {});
  EXPECT_GE(found.wall_ns, 30 * kMillisecond);
  EXPECT_GT(found.cpu_ns, 0);
  EXPECT_GE(found.involuntary_switches, 0);
}

}  // namespace
}  // namespace kvlab

// A heartbeat beats beside the work until it is destroyed, whatever a beat throws.
#include "kvlab/runtime/heartbeat.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

namespace {

using kvlab::Heartbeat;
using Clock = std::chrono::steady_clock;

constexpr double kSeconds = 0.02;

bool reaches(const std::atomic<int>& count, int wanted) {
  const auto end = Clock::now() + std::chrono::seconds(20);
  while (count < wanted && Clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return count >= wanted;
}

TEST(Heartbeat, BeatsBesideTheWorkAndAtItsPace) {
  std::atomic<int> beats = 0;
  const auto start = Clock::now();
  const Heartbeat heartbeat([&] { ++beats; }, kSeconds);
  ASSERT_TRUE(reaches(beats, 5));
  const double passed = std::chrono::duration<double>(Clock::now() - start).count();
  EXPECT_GE(passed, 5 * kSeconds) << "the first comes after the time, not at once";
}

TEST(Heartbeat, EndsWithTheObjectAtOnce) {
  std::atomic<int> beats = 0;
  { const Heartbeat heartbeat([&] { ++beats; }, kSeconds); }
  const int before = beats;
  std::this_thread::sleep_for(std::chrono::duration<double>(4 * kSeconds));
  EXPECT_EQ(beats, before);
  const auto start = Clock::now();
  { const Heartbeat heartbeat([] {}, 3600); }
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(20)) << "it waits for no beat";
}

TEST(Heartbeat, GoesOnWhereABeatFails) {
  std::atomic<int> beats = 0;
  const Heartbeat heartbeat(
      [&] {
        ++beats;
        throw std::runtime_error("the disk is full");
      },
      kSeconds);
  EXPECT_TRUE(reaches(beats, 3));
}

TEST(Heartbeat, LeavesSignalsToTheThreadThatWorks) {
  std::atomic<int> blocked = -1;
  const Heartbeat heartbeat(
      [&] {
        sigset_t mask;
        pthread_sigmask(SIG_BLOCK, nullptr, &mask);
        blocked = sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGTERM) == 1 ? 1 : 0;
      },
      kSeconds);
  EXPECT_TRUE(reaches(blocked, 0));
  EXPECT_EQ(blocked, 1);
  sigset_t mine;
  pthread_sigmask(SIG_BLOCK, nullptr, &mine);
  EXPECT_EQ(sigismember(&mine, SIGINT), 0);
}

}  // namespace

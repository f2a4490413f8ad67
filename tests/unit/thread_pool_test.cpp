// The pool of threads: every item once, on threads with valid numbers, and nothing lost between
// calls.
#include "kvlab/core/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <vector>

#include "kvlab/core/error.h"

namespace kvlab {
namespace {

TEST(ThreadPool, EveryItemRunsExactlyOnceOnAThreadOfThePool) {
  for (const int threads : {1, 2, 3, 16}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t items : {0, 1, 2, 5, 1000}) {
      std::vector<std::atomic<int>> times(static_cast<size_t>(items));
      std::atomic<int> strangers{0};
      pool.for_each(items, [&](int64_t index, int thread) {
        ++times[static_cast<size_t>(index)];
        if (thread < 0 || thread >= threads) ++strangers;
      });
      for (const auto& count : times) EXPECT_EQ(count.load(), 1) << threads << " threads";
      EXPECT_EQ(strangers.load(), 0);
    }
  }
}

TEST(ThreadPool, ThreadZeroIsTheCallersAndEachNumberIsOneThread) {
  ThreadPool pool(4);
  std::vector<std::atomic<std::thread::id>> seen(4);
  std::atomic<bool> mixed{false};
  for (int call = 0; call < 50; ++call) {
    pool.for_each(64, [&](int64_t, int thread) {
      const std::thread::id before =
          seen[static_cast<size_t>(thread)].exchange(std::this_thread::get_id());
      if (before != std::thread::id() && before != std::this_thread::get_id()) mixed = true;
      if ((thread == 0) != (seen[0].load() == std::this_thread::get_id())) mixed = true;
    });
  }
  EXPECT_FALSE(mixed);
  EXPECT_EQ(seen[0].load(), std::this_thread::get_id());
}

TEST(ThreadPool, WorkersTakePart) {
  ThreadPool pool(2);
  std::atomic<bool> worker_ran{false};
  // The caller holds its item until a worker has taken the other.
  pool.for_each(2, [&](int64_t, int thread) {
    if (thread != 0) worker_ran = true;
    while (!worker_ran) std::this_thread::yield();
  });
  EXPECT_TRUE(worker_ran);
}

TEST(ThreadPool, PlainWritesOfManySmallCallsAreVisibleAfterEach) {
  constexpr uint64_t kSeed = 5;
  for (const int threads : {2, 5}) {
    ThreadPool pool(threads);
    std::mt19937_64 random(kSeed);
    std::vector<int64_t> values(50);
    for (int64_t call = 0; call < 20000; ++call) {
      const int64_t items = 1 + static_cast<int64_t>(random() % values.size());
      pool.for_each(items, [&](int64_t index, int) {
        values[static_cast<size_t>(index)] = call * 100 + index;
      });
      for (int64_t i = 0; i < items; ++i) {
        ASSERT_EQ(values[static_cast<size_t>(i)], call * 100 + i) << "call " << call;
      }
    }
  }
}

TEST(ThreadPool, WorkersThatFellAsleepWakeUp) {
  ThreadPool pool(3);
  for (int call = 0; call < 30; ++call) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // far longer than they spin
    std::atomic<bool> worker_ran{false};
    pool.for_each(3, [&](int64_t, int thread) {
      if (thread != 0) worker_ran = true;
      while (!worker_ran) std::this_thread::yield();
    });
    EXPECT_TRUE(worker_ran);
  }
}

TEST(ThreadPool, ACallerThatFellAsleepWakesUp) {
  ThreadPool pool(2);
  for (int call = 0; call < 10; ++call) {
    std::atomic<int> done{0};
    std::atomic<bool> worker_has_one{false};
    pool.for_each(2, [&](int64_t, int thread) {
      if (thread == 0) {
        while (!worker_has_one) std::this_thread::yield();
      } else {
        worker_has_one = true;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the caller waits by then
      }
      ++done;
    });
    EXPECT_EQ(done.load(), 2);
  }
}

TEST(ThreadPool, PoolsComeAndGoUsedOrNot) {
  for (int round = 0; round < 200; ++round) {
    ThreadPool pool(1 + round % 6);
    if (round % 3 == 0) continue;
    std::atomic<int> ran{0};
    pool.for_each(round % 7, [&](int64_t, int) { ++ran; });
    EXPECT_EQ(ran.load(), round % 7);
    if (round % 20 == 1) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST(ThreadPool, SeveralPoolsWorkBesideEachOther) {
  std::vector<std::thread> callers;
  std::atomic<int64_t> total{0};
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&total] {
      ThreadPool pool(3);
      for (int call = 0; call < 500; ++call) {
        pool.for_each(9, [&](int64_t, int) { ++total; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total.load(), 3 * 500 * 9);
}

TEST(ThreadPool, ItMayBeCalledFromOneThreadAfterAnother) {
  ThreadPool pool(2);
  int64_t sum = 0;
  for (int round = 0; round < 20; ++round) {
    std::thread([&] {
      std::vector<int64_t> parts(10);
      pool.for_each(10, [&](int64_t index, int) { parts[static_cast<size_t>(index)] = index; });
      for (const int64_t part : parts) sum += part;
    }).join();
  }
  EXPECT_EQ(sum, 20 * 45);
}

TEST(ThreadPool, NoThreadsAreRefused) {
  for (const int threads : {0, -3}) {
    try {
      const ThreadPool pool(threads);
      FAIL() << threads << " threads were accepted";
    } catch (const UserError& error) {
      EXPECT_EQ(std::string(error.what()), "[core.threads] number of threads: got " +
                                               std::to_string(threads) + ", wanted at least 1");
    }
  }
}

}  // namespace
}  // namespace kvlab

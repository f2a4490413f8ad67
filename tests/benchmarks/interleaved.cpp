#include "tests/benchmarks/interleaved.h"

#include <sys/resource.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "kvlab/runtime/statistics.h"

namespace kvlab::benchmarks {

namespace {

// Wakes threads, and outlasts the loop in which the library's threads wait for their next product.
constexpr double kWarmSeconds = 0.004;
constexpr double kTurnSeconds = 0.015;
constexpr size_t kTurnRuns = 5;

// Times that the system took the processor away from one of the process's threads so far.
long involuntary_switches() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

struct Turn {
  double seconds = 0;
  long switches = 0;
};

Turn take_turn(const Arm& arm) {
  for (double warm = arm(); warm < kWarmSeconds;) warm += std::max(arm(), 1e-7);
  const long before = involuntary_switches();
  std::vector<double> seconds;
  for (double total = 0; total < kTurnSeconds || seconds.size() < kTurnRuns;) {
    seconds.push_back(arm());
    total += std::max(seconds.back(), 1e-7);
  }
  return {median(seconds), involuntary_switches() - before};
}

struct Block {
  size_t index = 0;
  std::vector<double> seconds;  // of each arm
  long switches = 0;
};

}  // namespace

Blocks run_interleaved(std::span<const Arm> arms, int blocks,
                       const std::function<void()>& before_block) {
  std::vector<size_t> order(arms.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937_64 random(7);
  std::vector<Block> run;
  const auto wanted = static_cast<size_t>(blocks);
  for (size_t quiet = 0; quiet < wanted && run.size() < 3 * wanted;) {
    if (before_block) before_block();
    std::shuffle(order.begin(), order.end(), random);
    Block block{run.size(), std::vector<double>(arms.size()), 0};
    for (const size_t arm : order) {
      const Turn turn = take_turn(arms[arm]);
      block.seconds[arm] = turn.seconds;
      block.switches += turn.switches;
    }
    if (block.switches == 0) ++quiet;
    run.push_back(std::move(block));
  }
  std::stable_sort(run.begin(), run.end(),
                   [](const Block& a, const Block& b) { return a.switches < b.switches; });
  run.resize(wanted);
  Blocks kept{std::vector<std::vector<double>>(arms.size()), {}, 0};
  for (const Block& block : run) {
    for (size_t arm = 0; arm < arms.size(); ++arm) kept.seconds[arm].push_back(block.seconds[arm]);
    kept.kept.push_back(block.index);
    kept.disturbed += block.switches > 0 ? 1 : 0;
  }
  return kept;
}

std::vector<double> ratios_of(std::span<const double> left, std::span<const double> right) {
  std::vector<double> ratios;
  for (size_t i = 0; i < left.size(); ++i) ratios.push_back(left[i] / right[i]);
  return ratios;
}

}  // namespace kvlab::benchmarks

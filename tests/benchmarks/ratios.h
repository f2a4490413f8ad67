// The ratios that guards and the table show: pairs of arms, timed in turns in one process.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/benchmarks/bench_machine.h"

namespace kvlab::benchmarks {

/// What the blocks of one ratio gave.
struct RatioSamples {
  std::vector<double> ratios;  ///< of each block
  int disturbed = 0;           ///< blocks in which the system took the processor away
  /// Bytes per second of numerator and denominator, and of the read probe in front of each block;
  /// empty where bytes say nothing.
  std::vector<double> top_speed, bottom_speed, probe;
};

enum class ProbeUse { none, beside };

struct Ratio {
  std::string name;      ///< "attention_f32_block16_T1024": no spaces
  std::string compares;  ///< "time of ... over ..."
  int threads = 1;
  std::function<RatioSamples(int blocks, ProbeUse probe)> measure;
};

/// Every ratio, on each of the numbers of threads. Nothing is built or run before `measure`, and
/// what it builds is checked against a reference before it is timed. `machine` is borrowed.
std::vector<Ratio> all_ratios(BenchMachine& machine, const std::vector<int>& threads);

}  // namespace kvlab::benchmarks

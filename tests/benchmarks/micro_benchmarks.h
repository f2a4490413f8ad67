// The groups of micro-benchmarks; each function adds its rows to Google Benchmark.
#pragma once

#include <benchmark/benchmark.h>

#include "tests/benchmarks/bench_machine.h"

namespace kvlab::benchmarks {

/// attention/<type>/<query heads>x<KV heads>/<layout>/T<entries>/threads<n>: one decode step's
/// attention in one layer.
void add_attention_benchmarks(BenchMachine& machine);

/// linear/<format>/<layer>/tokens<n>[/library]/threads<n>.
void add_linear_benchmarks(BenchMachine& machine);

/// step/<cache>/<length> and append/<cache>/<length>: what a decode step costs in the cache alone.
void add_cache_benchmarks(BenchMachine& machine);

/// read_probe/threads<n>: the floor under the others.
void add_read_probe_benchmarks(BenchMachine& machine);

/// Sets the counters GB/s and of_probe of a benchmark whose iterations each read `bytes`, against
/// the probe of the last 2 seconds.
void count_bytes(benchmark::State& state, BenchMachine& machine, int threads, int64_t bytes,
                 double seconds);

}  // namespace kvlab::benchmarks

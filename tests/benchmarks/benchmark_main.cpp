// Google Benchmark over everything that micro_benchmarks.h lists.
#include <cstdio>
#include <string>

#include "kvlab/kernels/target.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/run_folder.h"
#include "tests/benchmarks/micro_benchmarks.h"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  try {
    kvlab::prepare_process();
    kvlab::set_threads(1);
    kvlab::benchmarks::BenchMachine machine;
    benchmark::AddCustomContext("simd_target", kvlab::kernels::target());
    benchmark::AddCustomContext("rotating_bytes",
                                std::to_string(kvlab::benchmarks::rotating_bytes()));
    for (const kvlab::ReportFact& fact : kvlab::describe_environment(machine.registry())) {
      benchmark::AddCustomContext(fact.name, fact.value);
    }
    kvlab::benchmarks::add_read_probe_benchmarks(machine);
    kvlab::benchmarks::add_attention_benchmarks(machine);
    kvlab::benchmarks::add_linear_benchmarks(machine);
    kvlab::benchmarks::add_cache_benchmarks(machine);
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& error) {
    // A variant that is wrong has no speed, and neither has the run.
    std::fprintf(stderr, "kvlab_benchmarks: %s\n", error.what());
    return 1;
  }
  return 0;
}

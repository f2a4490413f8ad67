#include <map>

#include "tests/benchmarks/micro_benchmarks.h"

namespace kvlab::benchmarks {

namespace {

// Google Benchmark calls a function several times to find the number of iterations. Checking the
// arm and filling its memory happens at the first call; only the last arm is kept.
template <typename Arm, typename Make>
Arm& keep_last(const std::string& name, const Make& make) {
  static std::string kept_name;
  static std::unique_ptr<Arm> kept;
  if (kept_name != name) {
    kept.reset();  // its memory first
    kept = make();
    kept_name = name;
  }
  return *kept;
}

template <typename Arm>
void time_arm(benchmark::State& state, BenchMachine& machine, Arm& arm, int threads) {
  for (int i = 0; i < 3; ++i) arm.run();
  double total = 0;
  for (auto _ : state) {
    const double seconds = arm.run();
    state.SetIterationTime(seconds);
    total += seconds;
  }
  count_bytes(state, machine, threads, arm.shape().bytes(), total);
}

void add_attention(BenchMachine& machine, const AttentionCase& shape, int threads) {
  const std::string name = shape.name() + "/threads" + std::to_string(threads);
  const auto run = [&machine, shape, threads, name](benchmark::State& state) {
    time_arm(state, machine,
             keep_last<AttentionArm>(name, [&] { return machine.attention(shape, threads); }),
             threads);
  };
  benchmark::RegisterBenchmark(("attention/" + name).c_str(), run)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

void add_linear(BenchMachine& machine, const LinearCase& shape, int threads) {
  const std::string name = shape.name() + "/threads" + std::to_string(threads);
  const auto run = [&machine, shape, threads, name](benchmark::State& state) {
    time_arm(state, machine,
             keep_last<LinearArm>(name, [&] { return machine.linear(shape, threads); }), threads);
  };
  benchmark::RegisterBenchmark(("linear/" + name).c_str(), run)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

std::vector<int> thread_counts() {
  return BenchMachine::most_threads() > 1 ? std::vector<int>{1, 2} : std::vector<int>{1};
}

}  // namespace

void count_bytes(benchmark::State& state, BenchMachine& machine, int threads, int64_t bytes,
                 double seconds) {
  const double speed = static_cast<double>(bytes * state.iterations()) / seconds;
  state.counters["GB/s"] = speed / 1e9;
  state.counters["of_probe"] = speed / machine.recent_probe(threads);
}

void add_attention_benchmarks(BenchMachine& machine) {
  for (const int threads : thread_counts()) {
    for (const auto& [heads, kv_heads] : {std::pair{12, 12}, std::pair{9, 3}, std::pair{12, 2}}) {
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kChar}) {
        for (const int64_t block_size : {0, 16, 32, 64, 128}) {
          for (int64_t length = 128; length <= 16384; length *= 2) {
            AttentionCase shape;
            shape.query_heads = heads;
            shape.kv_heads = kv_heads;
            shape.type = type;
            shape.block_size = block_size;
            shape.length = length;
            add_attention(machine, shape, threads);
          }
        }
      }
    }
  }
}

void add_linear_benchmarks(BenchMachine& machine) {
  using kernels::WeightFormat;
  for (const int threads : thread_counts()) {
    for (LinearCase shape : decoder_layers()) {
      for (const WeightFormat format :
           {WeightFormat::f32, WeightFormat::bf16, WeightFormat::int8}) {
        shape.format = format;
        for (const int64_t tokens : {1, 8}) {
          shape.tokens = tokens;
          for (const bool library : {false, true}) {
            if (library && format == WeightFormat::int8) continue;
            shape.library = library;
            add_linear(machine, shape, threads);
          }
        }
      }
    }
  }
}

void add_read_probe_benchmarks(BenchMachine& machine) {
  for (const int threads : thread_counts()) {
    const auto run = [&machine, threads](benchmark::State& state) {
      double fastest = 0;
      for (auto _ : state) {
        const double speed = machine.probe(threads);
        state.SetIterationTime(static_cast<double>(int64_t{1} << 30) / speed);
        fastest = std::max(fastest, speed);
      }
      state.counters["GB/s"] = fastest / 1e9;
      state.counters["of_probe"] = 1;
    };
    benchmark::RegisterBenchmark(("read_probe/threads" + std::to_string(threads)).c_str(), run)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace kvlab::benchmarks

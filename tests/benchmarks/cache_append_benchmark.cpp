// What one decode step costs in the cache alone: begin, append to every layer, view, end.
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>

#include <memory>

#include "kvlab/core/step_plan.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {
namespace {

CacheShape gpt2_small(int64_t length) {
  CacheShape shape;
  shape.layers = 12;
  shape.query_heads = shape.kv_heads = 12;
  shape.rows = 1;
  shape.key_dim = shape.value_dim = 64;
  shape.max_length = shape.max_step_tokens = length;
  return shape;
}

// One step of `count` tokens at the row's current length.
void feed(KVCache& cache, StepPlan& plan, const CacheShape& shape, int64_t count) {
  RowSlice slice;
  slice.first_position = cache.length(0);
  slice.count = cache.traits().keeps_nothing ? slice.first_position + count : count;
  const std::vector<int32_t> tokens(static_cast<size_t>(slice.count), 0);
  const at::Tensor step = at::zeros({slice.count, shape.kv_heads, shape.key_dim});
  plan.clear();
  plan.add(slice, tokens);
  cache.begin_step(plan);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    cache.append(static_cast<int>(layer), step, step);
    benchmark::DoNotOptimize(&cache.view(static_cast<int>(layer), step));
  }
  cache.end_step();
}

void decode_step(benchmark::State& state, const Registry* registry, const std::string& name) {
  const int64_t length = state.range(0);
  const CacheShape shape = gpt2_small(length + 1);
  StorageArena arena({.prefault = true});
  const auto cache = registry->make_cache({name, {}, ""}, shape, arena);
  StepPlan plan;
  feed(*cache, plan, shape, length);
  for (auto _ : state) {
    feed(*cache, plan, shape, 1);
    if (!cache->traits().keeps_nothing) cache->truncate(0, length);
  }
}

}  // namespace
}  // namespace kvlab

int main(int argc, char** argv) {
  kvlab::prepare_process();
  kvlab::set_threads(1);
  static kvlab::Registry registry;
  kvlab::register_builtin_plugins(registry);
  for (const kvlab::CacheEntry& entry : registry.caches()) {
    benchmark::RegisterBenchmark(("decode_step/" + entry.info.name).c_str(), kvlab::decode_step,
                                 &registry, entry.info.name)
        ->Arg(128)
        ->Arg(512)
        ->Arg(1024)
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

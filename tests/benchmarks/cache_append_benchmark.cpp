// What one decode step costs in the cache alone: begin, append to every layer, view, end.
#include <ATen/ops/zeros.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>

#include "kvlab/core/step_plan.h"
#include "kvlab/runtime/process.h"
#include "kvlab/runtime/registry.h"

namespace kvlab {
namespace {

// Prompts are fed in chunks, so that bounded caches evict as they would in a run.
constexpr int64_t kChunk = 128;

CacheShape gpt2_small(int64_t length) {
  CacheShape shape;
  shape.layers = 12;
  shape.query_heads = shape.kv_heads = 12;
  shape.rows = 1;
  shape.key_dim = shape.value_dim = 64;
  shape.max_length = length;
  shape.max_step_tokens = std::min(length, kChunk);
  return shape;
}

// One step of `count` tokens at the row's current length.
void feed(KVCache& cache, StepPlan& plan, const CacheShape& shape, int64_t count) {
  RowSlice slice;
  slice.first_position = cache.length(0);
  slice.count = count;
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

void prefill(KVCache& cache, StepPlan& plan, const CacheShape& shape, int64_t length) {
  if (cache.traits().keeps_nothing) return feed(cache, plan, shape, length);
  while (cache.length(0) < length) {
    feed(cache, plan, shape, std::min(kChunk, length - cache.length(0)));
  }
}

// Each measured step is taken back where the cache can always do that. Else the text grows by some
// steps before it is fed anew.
void decode_step(benchmark::State& state, const Registry* registry, const std::string& name) {
  constexpr int64_t kSteps = 256;
  const int64_t length = state.range(0);
  const ComponentSpec spec{name, {}, ""};
  const bool takes_back =
      registry->cache_traits(spec, gpt2_small(length + 1)).truncation == Truncation::exact;
  const CacheShape shape = gpt2_small(length + (takes_back ? 1 : kSteps));
  StorageArena arena({.prefault = true});
  const auto cache = registry->make_cache(spec, shape, arena);
  const bool nothing = cache->traits().keeps_nothing;
  StepPlan plan;
  prefill(*cache, plan, shape, length);
  for (auto _ : state) {
    feed(*cache, plan, shape, 1);
    if (nothing) continue;
    if (takes_back) {
      cache->truncate(0, length);
    } else if (cache->length(0) == shape.max_length) {
      state.PauseTiming();
      cache->reset(0);
      prefill(*cache, plan, shape, length);
      state.ResumeTiming();
    }
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

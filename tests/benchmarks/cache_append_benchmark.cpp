// What one decode step costs in the cache alone: begin, append to every layer, view, end.
#include <ATen/ops/randn.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>

#include "kvlab/core/step_plan.h"
#include "tests/benchmarks/micro_benchmarks.h"

namespace kvlab::benchmarks {
namespace {

enum class Part { whole_step, append };

using Clock = std::chrono::steady_clock;

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

// The step's K and V, the same in every layer.
at::Tensor new_tokens(const CacheShape& shape, int64_t count) {
  return at::randn({count, shape.kv_heads, shape.key_dim});
}

// One step of `step`'s tokens at the row's current length. Returns the seconds of `part`.
double feed(KVCache& cache, StepPlan& plan, const CacheShape& shape, const at::Tensor& step,
            Part part) {
  RowSlice slice;
  slice.first_position = cache.length(0);
  slice.count = step.size(0);
  const std::vector<int32_t> tokens(static_cast<size_t>(slice.count), 0);
  plan.clear();
  plan.add(slice, tokens);
  Clock::duration append{0};
  const auto start = Clock::now();
  cache.begin_step(plan);
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const auto before = part == Part::append ? Clock::now() : Clock::time_point{};
    cache.append(static_cast<int>(layer), step, step);
    if (part == Part::append) append += Clock::now() - before;
    benchmark::DoNotOptimize(&cache.view(static_cast<int>(layer), step));
  }
  cache.end_step();
  const Clock::duration whole = Clock::now() - start;
  return std::chrono::duration<double>(part == Part::append ? append : whole).count();
}

void prefill(KVCache& cache, StepPlan& plan, const CacheShape& shape, int64_t length) {
  const int64_t chunk = cache.traits().keeps_nothing ? length : kChunk;
  do {
    const int64_t count = std::min(chunk, length - cache.length(0));
    feed(cache, plan, shape, new_tokens(shape, count), Part::whole_step);
  } while (!cache.traits().keeps_nothing && cache.length(0) < length);
}

// Throws unless the last entry of the view that a step left is the step's token: a cache that
// stores nothing of it would be the fastest.
void check_last_entry(KVCache& cache, StepPlan& plan, const CacheShape& shape) {
  const at::Tensor step = new_tokens(shape, 1);
  feed(cache, plan, shape, step, Part::whole_step);
  if (cache.traits().keeps_nothing || !cache.traits().exact) return;
  KVView view;
  cache.inspect(static_cast<int>(shape.layers) - 1, 0, view);
  const KVSegment& last = view.segments(0).back();
  const auto* values = static_cast<const float*>(last.values.data);
  const float stored = values[(last.count - 1) * last.values.token_stride];
  const float given = step.const_data_ptr<float>()[last.head_begin * shape.key_dim];
  if (last.position(last.count - 1) != cache.length(0) - 1 || stored != given) {
    throw std::runtime_error("cache " + cache.name() + " does not hold the token it was given");
  }
}

// Each measured step is taken back where the cache can always do that. Else the text grows by some
// steps before it is fed anew.
void decode_step(benchmark::State& state, const Registry& registry, const std::string& name,
                 Part part) {
  constexpr int64_t kSteps = 256;
  const int64_t length = state.range(0);
  const ComponentSpec spec{name, {}, ""};
  const bool takes_back =
      registry.cache_traits(spec, gpt2_small(length + 1)).truncation == Truncation::exact;
  const CacheShape shape = gpt2_small(length + (takes_back ? 1 : kSteps));
  StorageArena arena({.prefault = true});
  const auto cache = registry.make_cache(spec, shape, arena);
  const bool nothing = cache->traits().keeps_nothing;
  const at::Tensor token = new_tokens(shape, 1);
  StepPlan plan;
  prefill(*cache, plan, shape, length);
  check_last_entry(*cache, plan, shape);
  if (takes_back) cache->truncate(0, length);
  for (auto _ : state) {
    state.SetIterationTime(feed(*cache, plan, shape, token, part));
    if (nothing) continue;
    if (takes_back) {
      cache->truncate(0, length);
    } else if (cache->length(0) == shape.max_length) {
      cache->reset(0);
      prefill(*cache, plan, shape, length);
    }
  }
}

}  // namespace

void add_cache_benchmarks(BenchMachine& machine) {
  for (const CacheEntry& entry : machine.registry().caches()) {
    for (const Part part : {Part::whole_step, Part::append}) {
      const auto run = [&machine, name = entry.info.name, part](benchmark::State& state) {
        decode_step(state, machine.registry(), name, part);
      };
      const std::string group = part == Part::append ? "append/" : "step/";
      benchmark::RegisterBenchmark((group + entry.info.name).c_str(), run)
          ->Arg(128)
          ->Arg(512)
          ->Arg(1024)
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

}  // namespace kvlab::benchmarks

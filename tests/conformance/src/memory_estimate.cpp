#include "kvlab/conformance/memory_estimate.h"

#include <ATen/ops/zeros.h>
#include <malloc.h>

#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {

namespace {

struct Scenario {
  CacheShape shape;
  std::string spec;
  StepSequence sequence;
};

class ScenarioMaker {
 public:
  explicit ScenarioMaker(uint64_t seed) : random_(seed) {}

  CacheShape shape() {
    CacheShape s;
    s.layers = between(1, 4);
    s.query_heads = std::vector<int64_t>{1, 4, 6, 12}[static_cast<size_t>(between(0, 3))];
    do s.kv_heads = between(1, s.query_heads);
    while (s.query_heads % s.kv_heads != 0);
    s.rows = between(1, 5);
    s.key_dim = 2 * between(1, 5);
    s.value_dim = between(1, 9);
    s.max_length = between(1, 80);
    s.max_step_tokens = between(0, 1) == 0 ? s.max_length : between(1, s.max_length);
    s.window = between(0, 2) == 0 ? between(1, 40) : 0;
    s.dtype = between(0, 1) == 0 ? at::kFloat : at::kBFloat16;
    return s;
  }

  // The defaults, an example, or either with random values for options that have a range.
  std::string spec(const ComponentInfo& info) {
    std::string options;
    const auto examples = static_cast<int64_t>(info.examples.size());
    if (const int64_t chosen = between(-1, examples - 1); chosen >= 0) {
      options = info.examples[static_cast<size_t>(chosen)];
    }
    ComponentSpec spec = parse_component_spec(info.name + (options.empty() ? "" : ":" + options));
    if (between(0, 2) > 0) {
      for (const OptionSpec& option : info.options) {
        if (between(0, 2) == 0) continue;
        if (const std::string text = value(option); !text.empty()) {
          spec.options[option.name].text = text;
        }
      }
    }
    return to_string(spec);
  }

  StepSequence steps(const CacheShape& shape) {
    if (between(0, 3) == 0) {  // what the runtime plans
      std::vector<int64_t> prompts;
      const int64_t generated = between(1, std::max<int64_t>(1, shape.max_length / 2));
      for (int64_t row = 0; row < shape.rows; ++row) {
        prompts.push_back(between(0, shape.max_length - generated + 1));
      }
      return StepSequence::prefill_then_decode(prompts, generated,
                                               between(1, shape.max_step_tokens));
    }
    StepSequence sequence;
    std::vector<int64_t> lengths(static_cast<size_t>(shape.rows), 0);
    const int64_t count = between(0, 12);
    for (int64_t step = 0; step < count; ++step) {
      std::vector<StepSequence::Item> items;
      for (int row = 0; row < shape.rows; ++row) {
        int64_t& length = lengths[static_cast<size_t>(row)];
        const int64_t most = std::min(shape.max_length - length, shape.max_step_tokens);
        if (between(0, 2) == 0 || most == 0) continue;
        length += between(0, 3) == 0 ? between(1, most) : 1;
        items.push_back({row, length});
      }
      sequence.steps.push_back(std::move(items));
    }
    return sequence;
  }

 private:
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }

  // Empty where the option has no range to draw from.
  std::string value(const OptionSpec& option) {
    switch (option.type) {
      case OptionType::boolean:
        return between(0, 1) == 0 ? "false" : "true";
      case OptionType::integer: {
        const auto low = static_cast<int64_t>(option.minimum.value_or(0));
        const double most = option.maximum.value_or(90);
        const int64_t high = most < 90 ? static_cast<int64_t>(most) : 90;
        return std::to_string(between(low, std::max(low, high)));
      }
      case OptionType::number: {
        const double low = option.minimum.value_or(0), high = option.maximum.value_or(low + 1);
        return std::to_string(low + (high - low) * static_cast<double>(between(0, 8)) / 8);
      }
      case OptionType::text:
        if (option.choices.empty()) return "";
        return option.choices[static_cast<size_t>(
            between(0, static_cast<int64_t>(option.choices.size()) - 1))];
      case OptionType::component:
        return "";
    }
    return "";
  }

  std::mt19937_64 random_;
};

void run(const Scenario& scenario, KVCache& cache) {
  const CacheShape& s = scenario.shape;
  for (const auto& items : scenario.sequence.steps) {
    StepPlan plan;
    for (const StepSequence::Item& item : items) {
      RowSlice slice;
      slice.row = item.row;
      slice.first_position = cache.length(item.row);
      slice.count = item.end - slice.first_position;
      plan.add(slice, std::vector<int32_t>(static_cast<size_t>(slice.count), 1));
    }
    cache.begin_step(plan);
    // All layers' K and V are alive at once, as in a cache that keeps nothing.
    std::vector<at::Tensor> alive;
    for (int layer = 0; layer < s.layers; ++layer) {
      const int64_t n = plan.num_tokens();
      alive.push_back(at::zeros({n, s.kv_heads, s.key_dim}, s.dtype));
      alive.push_back(at::zeros({n, s.kv_heads, s.value_dim}, s.dtype));
      cache.append(layer, alive[alive.size() - 2], alive.back());
    }
    cache.end_step();
  }
}

std::string describe(const MemoryUsage& usage) {
  std::string text;
  for (size_t kind = 0; kind < kMemoryKinds; ++kind) {
    text += std::to_string(usage.live[kind]) + "/" + std::to_string(usage.peak[kind]) + " ";
  }
  return text + "peak " + std::to_string(usage.peak_total);
}

// The bytes, or nothing where there was no room.
template <typename Function>
std::optional<MemoryUsage> unless_full(Function function) {
  try {
    return function();
  } catch (const CapacityError&) {
    return std::nullopt;
  }
}

bool is_refused(const Registry& registry, const Scenario& scenario) {
  const ComponentSpec spec = parse_component_spec(scenario.spec);
  try {
    registry.cache_traits(spec, scenario.shape);
    StorageArena arena;
    registry.make_cache(spec, scenario.shape, arena);
  } catch (const CapacityError&) {
    return false;
  } catch (const UserError&) {
    return true;
  }
  return false;
}

void compare(const Registry& registry, const Scenario& scenario, const std::string& place) {
  const ComponentSpec spec = parse_component_spec(scenario.spec);
  StorageArena arena(ArenaOptions{.poison = true});
  const std::optional<MemoryUsage> measured = unless_full([&] {
    const auto cache = registry.make_cache(spec, scenario.shape, arena);
    run(scenario, *cache);
    return arena.usage();
  });
  require_equal(arena.usage().live_total(), 0, place, ": bytes left behind");
  const std::optional<MemoryUsage> estimate = unless_full(
      [&] { return registry.estimate_cache(spec, scenario.shape, scenario.sequence); });
  require(measured.has_value() == estimate.has_value(), place, ": the cache ",
          measured ? "holds the texts" : "is full", ", the estimate says that it ",
          estimate ? "holds them" : "is full");
  if (!measured) return;
  require(*measured == *estimate, place, ", live/peak of storage, metadata, scratch: measured ",
          describe(*measured), ", estimate ", describe(*estimate));
}

int64_t check(const Registry& registry, const ComponentInfo& info, const std::string& fixed_spec,
              uint64_t seed, int64_t scenarios) {
  ScenarioMaker maker(seed);
  int64_t ran = 0;
  for (int64_t i = 0; i < scenarios; ++i) {
    Scenario scenario;
    scenario.shape = maker.shape();
    scenario.spec = fixed_spec.empty() ? maker.spec(info) : fixed_spec;
    scenario.sequence = maker.steps(scenario.shape);
    if (is_refused(registry, scenario)) continue;
    compare(registry, scenario, detail::concat("seed ", seed, " scenario ", i, " ", scenario.spec));
    ++ran;
  }
  require(ran * 5 >= scenarios, info.name, ": ", scenarios - ran, " of ", scenarios,
          " scenarios were refused");
  return ran;
}

}  // namespace

int64_t check_memory_estimate(const Registry& registry, const std::string& plugin, uint64_t seed,
                              int64_t scenarios) {
  return check(registry, registry.cache(plugin).info, "", seed, scenarios);
}

int64_t check_memory_estimate(const Registry& registry, const CacheCase& chosen, uint64_t seed,
                              int64_t scenarios) {
  return check(registry, registry.cache(chosen.plugin).info, chosen.spec, seed, scenarios);
}

#if defined(__SANITIZE_ADDRESS__)
#define KVLAB_ALLOCATOR_REPLACED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KVLAB_ALLOCATOR_REPLACED 1
#endif
#endif

std::optional<int64_t> allocator_bytes() {
#ifdef KVLAB_ALLOCATOR_REPLACED
  return std::nullopt;
#else
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
#endif
}

}  // namespace kvlab::conformance

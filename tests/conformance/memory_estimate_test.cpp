// A cache's estimate and what the arena counts share no size code and must agree to the byte, and
// the arena's count must agree with the allocator's.
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>
#include <malloc.h>

#include <memory>
#include <random>

#include "cache_cases.h"
#include "kvlab/core/error.h"

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

  Scenario make(const std::string& plugin) {
    Scenario made;
    CacheShape& s = made.shape;
    s.layers = between(1, 4);
    s.query_heads = std::vector<int64_t>{1, 4, 6, 12}[static_cast<size_t>(between(0, 3))];
    do s.kv_heads = between(1, s.query_heads);
    while (s.query_heads % s.kv_heads != 0);
    s.rows = between(1, 5);
    s.key_dim = between(1, 9);
    s.value_dim = between(1, 9);
    s.max_length = between(1, 80);
    s.max_step_tokens = s.max_length;
    s.dtype = between(0, 1) == 0 ? at::kFloat : at::kBFloat16;
    made.spec = plugin + options(plugin, s);
    made.sequence = steps(s);
    return made;
  }

 private:
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }

  std::string options(const std::string& plugin, const CacheShape& shape) {
    if (plugin == "paged") {
      std::string text = ":block_size=" + std::to_string(between(1, 90));
      // Enough for any text, and more or less than the default.
      if (between(0, 1) == 0) {
        text += ",max_blocks=" + std::to_string(shape.rows * shape.max_length + between(0, 9));
      }
      return text;
    }
    if (plugin == "preallocated") {
      if (between(0, 2) == 0) return "";
      if (between(0, 2) == 0) {
        return ":capacity=" + std::to_string(shape.max_length + between(0, 5));
      }
      return ":growth=doubling,capacity=" + std::to_string(between(0, 100));
    }
    const auto sets = option_sets(plugin, shape);
    const std::string& chosen =
        sets[static_cast<size_t>(between(0, static_cast<int64_t>(sets.size()) - 1))].options;
    return chosen.empty() ? "" : ":" + chosen;
  }

  StepSequence steps(const CacheShape& shape) {
    StepSequence sequence;
    if (between(0, 3) == 0) {  // what the runtime plans
      std::vector<int64_t> prompts;
      const int64_t generated = between(1, std::max<int64_t>(1, shape.max_length / 2));
      for (int64_t row = 0; row < shape.rows; ++row) {
        prompts.push_back(between(0, shape.max_length - generated + 1));
      }
      return StepSequence::prefill_then_decode(prompts, generated, between(0, 10));
    }
    std::vector<int64_t> lengths(static_cast<size_t>(shape.rows), 0);
    const int64_t count = between(0, 12);
    for (int64_t step = 0; step < count; ++step) {
      std::vector<StepSequence::Item> items;
      for (int row = 0; row < shape.rows; ++row) {
        int64_t& length = lengths[static_cast<size_t>(row)];
        const int64_t room = shape.max_length - length;
        if (between(0, 2) == 0 || room == 0) continue;
        length += between(0, 3) == 0 ? between(1, room) : 1;
        items.push_back({row, length});
      }
      sequence.steps.push_back(std::move(items));
    }
    return sequence;
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

class EstimateTest : public testing::Test {
 public:
  explicit EstimateTest(std::string plugin) : plugin_(std::move(plugin)) {}

  void TestBody() override {
    const uint64_t seed = 413;
    RecordProperty("seed", std::to_string(seed));
    ScenarioMaker maker(seed);
    for (int i = 0; i < 1000; ++i) {
      const Scenario scenario = maker.make(plugin_);
      const ComponentSpec spec = parse_component_spec(scenario.spec);
      StorageArena arena(ArenaOptions{.poison = true});
      MemoryUsage measured;
      {
        const auto cache = builtin_registry().make_cache(spec, scenario.shape, arena);
        run(scenario, *cache);
        measured = arena.usage();
      }
      const MemoryUsage wanted =
          builtin_registry().estimate_cache(spec, scenario.shape, scenario.sequence);
      ASSERT_EQ(measured, wanted) << "seed " << seed << " scenario " << i << " " << scenario.spec
                                  << "\nmeasured " << describe(measured) << "\nestimate "
                                  << describe(wanted);
      EXPECT_EQ(arena.usage().live_total(), 0);
    }
  }

 private:
  std::string plugin_;
};

int register_estimates() {
  int count = 0;
  for (const CacheEntry& entry : builtin_registry().caches()) {
    const std::string name = entry.info.name;
    testing::RegisterTest("MemoryEstimate", (name + "/EqualsTheArenaInEveryField").c_str(),
                          nullptr, nullptr, __FILE__, __LINE__,
                          [name]() -> testing::Test* { return new EstimateTest(name); });
    ++count;
  }
  return count;
}

const int kRegistered = register_estimates();

TEST(MemoryEstimateCoverage, EveryCacheHasATest) {
  EXPECT_EQ(kRegistered, static_cast<int>(builtin_registry().caches().size()));
}

TEST(MemoryEstimateCoverage, ScenariosAreNotTrivial) {
  // Sequences with steps, with growth, and with several rows must be among them.
  ScenarioMaker maker(413);
  int stepped = 0, ragged = 0;
  for (int i = 0; i < 200; ++i) {
    const Scenario scenario = maker.make("concat");
    stepped += scenario.sequence.steps.size() > 3 ? 1 : 0;
    ragged += scenario.shape.rows > 1 ? 1 : 0;
  }
  EXPECT_GT(stepped, 100);
  EXPECT_GT(ragged, 100);
}

// The sanitizers bring an allocator of their own, which does not fill in mallinfo2.
#if !defined(__SANITIZE_ADDRESS__)
int64_t allocated_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

TEST(ArenaAgainstMalloc, CountsWhatTheAllocatorGaveUpToAlignment) {
  CacheShape shape;
  shape.layers = 3;
  shape.query_heads = shape.kv_heads = 4;
  shape.rows = 2;
  shape.key_dim = shape.value_dim = 64;
  shape.max_length = 300;
  shape.max_step_tokens = 300;
  Scenario scenario;
  scenario.shape = shape;
  scenario.sequence = StepSequence::prefill_then_decode({120, 290}, 10, 0);
  for (const std::string spec :
       {"preallocated", "preallocated:growth=doubling,capacity=32", "paged:block_size=16",
        "paged:block_size=64,max_blocks=50000", "concat"}) {
    // The first run fills free lists and caches of the library itself.
    for (const bool warm : {true, false}) {
      StorageArena arena;
      const int64_t before = allocated_bytes();
      const auto cache = builtin_registry().make_cache(parse_component_spec(spec), shape, arena);
      run(scenario, *cache);
      const int64_t grown = allocated_bytes() - before;
      const int64_t counted = arena.usage().reserved();
      ASSERT_GT(counted, 1 << 20) << spec;
      if (warm) continue;
      // Per allocation 64 bytes of alignment, the chunk's header and a tensor handle, and what
      // the cache holds outside the arena: a vector of handles and a view.
      const int64_t slack = arena.allocations() * 512 + 16 * 1024;
      EXPECT_GE(grown, counted - 1024) << spec;
      EXPECT_LE(grown, counted + slack) << spec;
    }
  }
}
#endif

}  // namespace
}  // namespace kvlab::conformance

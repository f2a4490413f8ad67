#include "kvlab/conformance/suite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <exception>
#include <functional>
#include <iostream>
#include <sstream>
#include <string_view>
#include <tuple>
#include <utility>

#include "kvlab/conformance/attention_properties.h"
#include "kvlab/conformance/cache_properties.h"
#include "kvlab/conformance/failure.h"
#include "kvlab/conformance/memory_estimate.h"
#include "kvlab/conformance/position_properties.h"
#include "kvlab/conformance/random_operations.h"
#include "kvlab/runtime/process.h"

namespace kvlab::conformance {

namespace {

constexpr const char* kCaches = "CacheConformance";
constexpr int64_t kEstimateScenarios = 1000;
constexpr int64_t kOperationsOfFurtherCases = 120;  // other dtypes and heads of an option set

// A test that fails with the text of whatever its function throws.
class FunctionTest : public testing::Test {
 public:
  explicit FunctionTest(std::function<void()> function) : function_(std::move(function)) {}
  void TestBody() override {
    try {
      function_();
    } catch (const Failure& failure) {
      FAIL() << failure.what();
    } catch (const std::exception& error) {
      FAIL() << "an exception where none may be: " << error.what();
    }
  }

 private:
  std::function<void()> function_;
};

struct PlannedTest {
  std::string suite, name;
  std::function<void()> function;
};

// Tests and what was left out, before any of it is made known to GoogleTest.
class Plan {
 public:
  void add(const std::string& suite, const std::string& name, std::function<void()> function) {
    tests_.push_back({suite, name, std::move(function)});
    ++registered_.tests;
  }

  // One row per plugin and reason, with the number of cases.
  void leave_out(const std::string& suite, const std::string& plugin, const std::string& test,
                 const std::string& reason) {
    for (LeftOut& row : registered_.left_out) {
      if (std::tie(row.suite, row.plugin, row.test, row.reason) ==
          std::tie(suite, plugin, test, reason)) {
        ++row.cases;
        return;
      }
    }
    registered_.left_out.push_back({suite, plugin, test, reason, 1});
  }

  void refuse(const std::string& name) { registered_.refused.push_back(name); }

  const Registered& registered() const { return registered_; }

  Registered register_all() const {
    for (const PlannedTest& test : tests_) {
      testing::RegisterTest(test.suite.c_str(), test.name.c_str(), nullptr, nullptr, __FILE__,
                            __LINE__, [function = test.function]() -> testing::Test* {
                              return new FunctionTest(function);
                            });
    }
    return registered_;
  }

 private:
  std::vector<PlannedTest> tests_;
  Registered registered_;
};

// "name" and "name:option=..." for the defaults and each example of a plugin.
std::vector<std::string> specs_of(const ComponentInfo& info) {
  std::vector<std::string> specs = {info.name};
  for (const std::string& example : info.examples) specs.push_back(info.name + ":" + example);
  return specs;
}

bool is_wanted(const SuiteOptions& options, const std::string& plugin) {
  return options.plugins.empty() || std::find(options.plugins.begin(), options.plugins.end(),
                                              plugin) != options.plugins.end();
}

// Attention and position plugins: every property of every spec. `traits` may throw UserError.
template <typename Property, typename Traits>
void add_properties(Plan& to, const std::string& suite, const Registry& registry,
                    const ComponentInfo& info, std::span<const Property> properties,
                    Traits traits) {
  for (const std::string& text : specs_of(info)) {
    const ComponentSpec spec = parse_component_spec(text);
    const auto promised = traits(spec);
    const size_t colon = text.find(':');
    const std::string name =
        info.name + (colon == std::string::npos ? "" : option_label(text.substr(colon + 1)));
    for (const Property& property : properties) {
      if (const std::string reason = property.not_promised(promised); !reason.empty()) {
        to.leave_out(suite, info.name, property.name, reason);
        continue;
      }
      to.add(suite, name + "/" + property.name,
             [&registry, spec, run = property.run] { run(registry, spec); });
    }
  }
}

// Cases of the caches among the plugins to test.
CacheCases wanted_cases(const Registry& registry, const SuiteOptions& options) {
  std::vector<std::string> names;
  for (const CacheEntry& entry : registry.caches()) {
    if (is_wanted(options, entry.info.name)) names.push_back(entry.info.name);
  }
  return names.empty() ? CacheCases{} : cache_cases(registry, names);
}

// A refusal is a UserError before anything is allocated.
void check_refusal(const Registry& registry, const CacheCase& refused) {
  StorageArena arena;
  const ComponentSpec spec = parse_component_spec(refused.spec);
  require_throws<UserError>(
      [&] {
        registry.cache_traits(spec, refused.shape);
        registry.make_cache(spec, refused.shape, arena);
      },
      refused.name);
  require_equal(arena.allocations(), 0, refused.name, ": allocations of a refused cache");
}

bool has_long_run(const CacheCase& chosen) {
  return chosen.first_of_options || has_short_steps(chosen);
}

// Operations for each case. An option set's share is spread over its first case and those with short
// steps, which are the most where there are any; some more for further dtypes and heads.
void add_random_operations(Plan& to, const Registry& registry, const CacheCases& cases,
                           const SuiteOptions& options) {
  const auto count_of = [&](const auto& which) {
    return std::count_if(cases.cases.begin(), cases.cases.end(), which);
  };
  for (const CacheCase& chosen : cases.cases) {
    const int64_t sets = count_of([&](const CacheCase& other) {
      return other.plugin == chosen.plugin && other.first_of_options;
    });
    const int64_t long_runs = sets * count_of([&](const CacheCase& other) {
      return other.spec == chosen.spec && has_long_run(other);
    });
    const int64_t share = (options.random_operations + long_runs - 1) / long_runs;
    const int64_t count = has_long_run(chosen) ? share : std::min(share, kOperationsOfFurtherCases);
    to.add(kCaches, chosen.name + "/RandomOperations",
           [&registry, chosen, count, options] {
             const auto failure =
                 check_random_operations(registry, chosen, options.seed, count,
                                         options.replay_folder, options.replaying_program);
             require(!failure.has_value(), failure.value_or(""));
           });
  }
}

void plan_caches(Plan& to, const Registry& registry, const SuiteOptions& options) {
  const CacheCases cases = wanted_cases(registry, options);
  for (const CacheCase& chosen : cases.cases) {
    const CacheTraits traits = traits_of(registry, chosen);
    for (const CacheProperty& property : cache_properties()) {
      if (property.once_per_options && !chosen.first_of_options) continue;
      if (const std::string reason = property.not_promised(traits); !reason.empty()) {
        to.leave_out(kCaches, chosen.plugin, property.name, reason);
        continue;
      }
      to.add(kCaches, chosen.name + "/" + property.name,
             [&registry, chosen, run = property.run] { run(registry, chosen); });
    }
  }
  add_random_operations(to, registry, cases, options);
  for (const RefusedCase& refused : cases.refused) {
    to.refuse(refused.chosen.name);
    to.add(kCaches, refused.chosen.name + "/ARefusalAllocatesNothing",
           [&registry, chosen = refused.chosen] { check_refusal(registry, chosen); });
  }
  for (const std::string& spec : cases.useless) {
    to.add(kCaches, option_label(spec).substr(1) + "/FitsSomeModel",
           [spec] { throw Failure(spec + " was refused for every shape"); });
  }
  for (const CacheEntry& entry : registry.caches()) {
    if (!is_wanted(options, entry.info.name)) continue;
    to.add("MemoryEstimate", entry.info.name + "/EqualsTheArenaInEveryField",
           [&registry, name = entry.info.name, seed = options.seed] {
             check_memory_estimate(registry, name, seed, kEstimateScenarios);
           });
  }
}

void plan_attentions(Plan& to, const Registry& registry, const SuiteOptions& options) {
  for (const AttentionEntry& entry : registry.attentions()) {
    if (!is_wanted(options, entry.info.name)) continue;
    add_properties(to, "AttentionConformance", registry, entry.info, attention_properties(),
                   [&](const ComponentSpec& spec) { return registry.attention_traits(spec); });
  }
}

void plan_positions(Plan& to, const Registry& registry, const SuiteOptions& options) {
  for (const PositionEntry& entry : registry.positions()) {
    if (!is_wanted(options, entry.info.name)) continue;
    add_properties(
        to, "PositionConformance", registry, entry.info, position_properties(),
        [&](const ComponentSpec& spec) {
          return registry.position_traits(spec, tested_position_shape());
        });
  }
}

Plan plan_all(const Registry& registry, const SuiteOptions& options) {
  Plan plan;
  plan_caches(plan, registry, options);
  plan_attentions(plan, registry, options);
  plan_positions(plan, registry, options);
  return plan;
}

}  // namespace

Registered register_cache_conformance(const Registry& registry, const SuiteOptions& options) {
  Plan plan;
  plan_caches(plan, registry, options);
  return plan.register_all();
}

Registered register_attention_conformance(const Registry& registry,
                                          const SuiteOptions& options) {
  Plan plan;
  plan_attentions(plan, registry, options);
  return plan.register_all();
}

Registered register_position_conformance(const Registry& registry, const SuiteOptions& options) {
  Plan plan;
  plan_positions(plan, registry, options);
  return plan.register_all();
}

Registered register_conformance(const Registry& registry, const SuiteOptions& options) {
  return plan_all(registry, options).register_all();
}

Registered survey_conformance(const Registry& registry, const SuiteOptions& options) {
  return plan_all(registry, options).registered();
}

std::string left_out_text(const Registry& registry, const std::string& suite,
                          const std::string& plugin) {
  SuiteOptions options;
  options.plugins = {plugin};
  Registered registered = survey_conformance(registry, options);
  std::vector<std::string> lines;
  for (const LeftOut& row : registered.left_out) {
    if (row.suite != suite) continue;
    std::ostringstream line;
    line << row.test << ": " << row.reason << " (" << row.cases
         << (row.cases == 1 ? " case)\n" : " cases)\n");
    lines.push_back(line.str());
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line;
  if (suite != kCaches) return text;
  std::sort(registered.refused.begin(), registered.refused.end());
  for (const std::string& name : registered.refused) text += "refused: " + name + "\n";
  return text;
}

int run_tests(int argc, char** argv) {
  prepare_process();
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--help") {
      std::cerr << "GoogleTest flags only, e.g. --gtest_filter=Suite.*\n";
      return 2;
    }
  }
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1) {
    std::cerr << "unknown argument: " << argv[1] << "\n";
    return 2;
  }
  const int code = RUN_ALL_TESTS();
  const testing::UnitTest& unit = *testing::UnitTest::GetInstance();
  if (unit.total_test_count() == 0) {
    std::cerr << "this program holds no test\n";
    return 3;
  }
  if (testing::GTEST_FLAG(list_tests)) return code;
  const int ran =
      unit.successful_test_count() + unit.failed_test_count() + unit.skipped_test_count();
  if (ran == 0 || ran != unit.test_to_run_count()) {
    std::cerr << "no test ran, or not all: " << ran << " of " << unit.test_to_run_count() << "\n";
    return 3;
  }
  return code;
}

}  // namespace kvlab::conformance

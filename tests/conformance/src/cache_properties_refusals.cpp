// Properties of errors, aborts and misuse: what is refused, and that nothing changes then.
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "cache_property_functions.h"
#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {

namespace {

constexpr int64_t kMostAllocations = 1000;  // of one operation

// Rows of unequal length, one of them empty.
void fill(CacheHarness& harness) { harness.step({{0, 7}, {1, 3}, {3, 11}}); }

// Runs `action` while the k-th allocation from now fails. Whether it did fail.
template <typename Action>
bool fails_at(CacheHarness& harness, int64_t k, Action action) {
  bool failed = false;
  harness.arena().fail_allocation(k);
  try {
    action();
  } catch (const CapacityError&) {
    failed = true;
  }
  harness.arena().fail_allocation(0);
  return failed;
}

StepPlan plan_of(int row, int64_t first_position, int64_t count) {
  StepPlan plan;
  RowSlice slice;
  slice.row = row;
  slice.first_position = first_position;
  slice.count = count;
  plan.add(slice, std::vector<int32_t>(static_cast<size_t>(count), 1));
  return plan;
}

class NoFeedback final : public AttentionFeedback {
 public:
  std::span<const float> entries(int64_t, int64_t) const override { return {}; }
};

}  // namespace

void a_full_row_refuses_the_step_and_nothing_changes(const Registry& registry,
                                                     const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  harness.step({{0, 22}, {1, 3}});
  require_throws<CapacityError>([&] { harness.begin({{1, 2}, {0, 2}}); },
                                "2 tokens where 1 has room");
  harness.verify();
  harness.step({{0, 1}});
  require_throws<CapacityError>([&] { harness.begin({{1, 1}, {0, 1}}); }, "1 token, row full");
  harness.verify();
  harness.step({{0, 0}, {1, 1}});
  if (harness.traits().truncation == Truncation::exact) {
    harness.truncate(0, 21);
    harness.step({{0, 2}});
  }
  harness.reset(0);
  harness.step({{0, 23}});
}

void a_text_that_can_never_fit_is_refused_at_once(const Registry& registry,
                                                  const CacheCase& chosen) {
  // Chunks as long as anybody likes, so that nothing but the length is in the way.
  CacheCase roomy = chosen;
  roomy.shape.max_step_tokens = 5000;
  CacheHarness harness(registry, roomy);
  for (const int64_t count : {24, 47, 5000}) {
    const StepPlan plan = plan_of(2, 0, count);
    require_throws<UserError>([&] { harness.cache().begin_step(plan); },
                              detail::concat(count, " tokens into a cache for 23"));
    harness.verify();
  }
  harness.step({{2, 23}});
}

void a_refused_step_changes_nothing_wherever_memory_ends(const Registry& registry,
                                                         const CacheCase& chosen) {
  const std::vector<Feed> wanted = {{0, 6}, {2, 7}, {1, 1}, {3, 1}};
  // Phase 0 starts empty, 1 behind text, 2 behind forks whose tails are shared.
  const int phases = traits_of(registry, chosen).forks ? 3 : 2;
  for (int phase = 0; phase < phases; ++phase) {
    for (int64_t k = 1;; ++k) {
      CacheHarness harness(registry, chosen);
      if (phase > 0) fill(harness);
      if (phase > 1) {
        harness.fork(0, 2);
        harness.fork(0, 1);
      }
      const auto reserved = [&] { return harness.arena().usage().reserved(); };
      const int64_t before = reserved();
      const std::vector<Feed> first = harness.first_part(wanted);
      const auto begin = [&] { harness.begin(first); };
      if (!fails_at(harness, k, begin)) {
        harness.abort();
        harness.verify();
        break;
      }
      require(k < kMostAllocations, "begin_step makes more than ", k, " allocations");
      harness.verify();
      const int64_t refused = reserved();
      require(fails_at(harness, 1, begin), "phase ", phase, ", allocation ", k,
              ": refused, and then the next attempt needed no memory");
      harness.verify();
      require_equal(reserved(), refused, "phase ", phase, ", allocation ", k,
                    ": bytes after a second refusal, against the first");
      harness.step(wanted);
      require(before <= refused && refused <= reserved(), "phase ", phase, ", allocation ", k,
              ": ", refused, " bytes after the refusal, ", before, " before and ", reserved(),
              " after the step that succeeded");
      harness.step({{0, 1}, {2, 1}, {1, 1}, {3, 1}});
    }
  }
}

void an_append_without_memory_can_be_aborted_and_retried(const Registry& registry,
                                                         const CacheCase& chosen) {
  const std::vector<Feed> wanted = {{0, 6}, {2, 7}, {1, 1}, {3, 1}};
  for (int64_t k = 1;; ++k) {
    CacheHarness harness(registry, chosen);
    fill(harness);
    if (harness.traits().forks) harness.fork(0, 2);
    harness.begin(harness.first_part(wanted));
    const bool failed = fails_at(harness, k, [&] {
      for (int layer = 0; layer < chosen.shape.layers; ++layer) harness.append(layer);
    });
    harness.abort();
    harness.verify();
    harness.step(wanted);
    harness.step({{0, 1}, {3, 3}});
    if (!failed) break;
    require(k < kMostAllocations, "append makes more than ", k, " allocations");
  }
}

void a_fork_without_memory_leaves_the_source_alone(const Registry& registry,
                                                   const CacheCase& chosen) {
  for (int64_t k = 1;; ++k) {
    CacheHarness harness(registry, chosen);
    fill(harness);
    if (!fails_at(harness, k, [&] { harness.cache().fork(3, 1); })) break;
    require(k < kMostAllocations, "fork makes more than ", k, " allocations");
    require_equal(harness.cache().length(1), 0, "length of the target of a fork that failed");
    harness.reset(1);
    harness.fork(3, 1);
    harness.step({{1, 1}, {3, 1}});
  }
}

void an_abort_in_any_phase_restores_everything(const Registry& registry,
                                               const CacheCase& chosen) {
  const int last = 2 * static_cast<int>(chosen.shape.layers);
  for (int phase = 0; phase <= last; ++phase) {
    CacheHarness harness(registry, chosen);
    fill(harness);
    if (harness.traits().forks) harness.fork(0, 2);
    const std::vector<Feed> feeds = {{0, 6}, {2, 1}, {1, 0}, {3, 2}};
    harness.begin(harness.first_part(feeds));
    for (int done = 0; done < phase; ++done) {
      done % 2 == 0 ? harness.append(done / 2) : harness.attend(done / 2);
    }
    harness.abort();
    harness.verify();
    harness.cache().abort_step();  // nothing runs: no effect
    harness.cache().end_step();
    harness.verify();
    harness.step(feeds);
    harness.step({{0, 1}, {2, 1}});
  }
}

void an_aborted_first_step_leaves_an_empty_cache(const Registry& registry,
                                                 const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  harness.begin(harness.first_part({{0, 9}, {1, 5}}));
  harness.append(0);
  harness.abort();
  harness.verify();
  require_equal(payload_bytes(harness.cache(), chosen.shape), 0, "payload after an abort");
  harness.step({{1, 9}, {0, 5}});
}

void nothing_is_lost_over_a_hundred_refusals(const Registry& registry, const CacheCase& chosen) {
  const std::vector<Feed> all = {{0, 23}, {1, 23}, {2, 23}, {3, 23}};
  CacheHarness fresh(registry, chosen), used(registry, chosen);
  fresh.step(all);
  const bool forks = used.traits().forks;
  for (int i = 0; i < 100; ++i) {
    used.begin(used.first_part({{0, 1 + i % 9}, {2, i % 5}}));
    if (i % 3 > 0) used.append(0);
    if (i % 3 > 1) used.append(1);
    used.abort();
    require_throws<UserError>([&] { used.begin({{1, 2}, {0, used.room(0) + 1}}); },
                              "a step past the longest text");
    fails_at(used, 1 + i % 4, [&] {
      used.begin(used.first_part({{1, 4}, {3, 9}}));
      used.abort();
    });
    if (used.room(3) < 2) used.reset(3);
    used.step({{3, 2}});
    if (forks) {
      used.fork(3, i % 3);
      used.fork(3, i % 3);  // over what the first one gave
      used.step({{i % 3, 1}});
      used.reset(i % 3);
    }
  }
  for (int row = 0; row < 4; ++row) used.reset(row);
  require_equal(payload_bytes(used.cache(), chosen.shape), 0, "payload of empty rows");
  used.step(all);
  const int64_t wanted = fresh.arena().usage().live_bytes(MemoryKind::storage);
  const int64_t got = used.arena().usage().live_bytes(MemoryKind::storage);
  require(got <= wanted, "storage of full rows is ", got, " bytes, of a new cache ", wanted);
}

void keys_and_values_of_another_kind_are_refused(const Registry& registry,
                                                 const CacheCase& chosen) {
  const CacheShape& s = chosen.shape;
  CacheHarness harness(registry, chosen);
  fill(harness);
  harness.begin({{0, 2}, {1, 1}});
  const int64_t n = harness.plan().num_tokens();
  const auto zeros = [&](int64_t tokens, int64_t heads, int64_t dim) {
    return at::zeros({tokens, heads, dim}, s.dtype);
  };
  const at::Tensor key = zeros(n, s.kv_heads, s.key_dim);
  const at::Tensor value = zeros(n, s.kv_heads, s.value_dim);
  const at::ScalarType other = s.dtype == at::kFloat ? at::kBFloat16 : at::kFloat;
  KVCache& cache = harness.cache();
  const auto refused = [&](const char* what, int layer, const at::Tensor& k,
                           const at::Tensor& v) {
    require_throws<UserError>([&] { cache.append(layer, k, v); }, what);
  };
  refused("keys of another float type", 0, key.to(other), value);
  refused("values of another float type", 0, key, value.to(other));
  refused("integer keys", 0, key.to(at::kLong), value);
  refused("one token too few", 0, zeros(n - 1, s.kv_heads, s.key_dim), value);
  refused("one token for all (keys)", 0, zeros(1, s.kv_heads, s.key_dim), value);
  refused("one token for all (values)", 0, key, zeros(1, s.kv_heads, s.value_dim));
  refused("one head too many", 0, zeros(n, s.kv_heads + 1, s.key_dim), value);
  refused("a longer key", 0, zeros(n, s.kv_heads, s.key_dim + 1), value);
  refused("a shorter value", 0, key, zeros(n, s.kv_heads, s.value_dim - 1));
  refused("heads flattened away", 0, key.flatten(0, 1), value);
  refused("every second element of a wider key", 0,
          zeros(n, s.kv_heads, 2 * s.key_dim).slice(2, 0, 2 * s.key_dim, 2), value);
  refused("layer -1", -1, key, value);
  refused("a layer behind the last", static_cast<int>(s.layers), key, value);
  harness.abort();
  harness.verify();
  refused("no step runs", 0, key, value);
  harness.step({{0, 2}, {1, 1}});
}

void rows_and_layers_that_do_not_exist_are_refused(const Registry& registry,
                                                   const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  fill(harness);
  KVCache& cache = harness.cache();
  const CacheTraits& traits = harness.traits();
  KVView view;
  for (const int row : {-1, 4, 99}) {
    const auto refused = [&](const char* what, auto action) {
      require_throws<UserError>(action, detail::concat(what, " of row ", row));
    };
    refused("length", [&] { cache.length(row); });
    refused("reset", [&] { cache.reset(row); });
    refused("inspect", [&] { cache.inspect(0, row, view); });
    if (traits.truncation != Truncation::refused) {
      refused("truncate", [&] { cache.truncate(row, 0); });
    }
    if (traits.forks) {
      refused("fork", [&] { cache.fork(row, 0); });
      refused("fork into it", [&] { cache.fork(0, row); });
    }
    const StepPlan plan = plan_of(row, 0, 1);
    refused("begin_step", [&] { cache.begin_step(plan); });
  }
  for (const int layer : {-1, 2, 99}) {
    require_throws<UserError>([&] { cache.inspect(layer, 0, view); },
                              detail::concat("inspect layer ", layer));
  }
  harness.verify();
}

void a_step_starts_at_the_length(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  fill(harness);
  for (const int64_t first : {1, 6, 8, 22}) {
    const StepPlan plan = plan_of(0, first, 1);
    require_throws<UserError>([&] { harness.cache().begin_step(plan); },
                              detail::concat("a step at position ", first));
  }
  harness.verify();
  harness.step({{0, 1}});
}

void a_view_needs_its_layer_appended_in_this_step(const Registry& registry,
                                                  const CacheCase& chosen) {
  const CacheShape& s = chosen.shape;
  CacheHarness harness(registry, chosen);
  const at::Tensor query = at::zeros({2, s.query_heads, s.key_dim}, at::kFloat);
  const auto refused = [&](int layer, const char* when) {
    require_throws<UserError>([&] { harness.cache().view(layer, query); },
                              detail::concat("view of layer ", layer, " ", when));
  };
  refused(0, "without a step");
  harness.step({{0, 2}});
  refused(0, "after a step");
  harness.begin({{0, 2}});
  refused(0, "before its append");
  harness.append(0);
  harness.attend(0);
  harness.attend(0);  // any number of times
  refused(1, "before its append");
  refused(-1, "that does not exist");
  refused(2, "that does not exist");
  harness.append(1);
  harness.attend(1);
  harness.attend(0);  // an earlier layer again
  harness.finish();
  harness.verify();
}

void operations_inside_a_step_are_refused(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  fill(harness);
  harness.begin({{0, 1}});
  KVView view;
  KVCache& cache = harness.cache();
  const auto refused = [&](const char* what, auto action) {
    require_throws<UserError>(action, detail::concat(what, " inside a step"));
  };
  refused("inspect", [&] { cache.inspect(0, 0, view); });
  refused("reset", [&] { cache.reset(1); });
  if (harness.traits().truncation != Truncation::refused) {
    refused("truncate", [&] { cache.truncate(1, 0); });
  }
  if (harness.traits().forks) refused("fork", [&] { cache.fork(0, 2); });
  refused("begin_step", [&] { cache.begin_step(harness.plan()); });
  for (int layer = 0; layer < chosen.shape.layers; ++layer) {
    harness.append(layer);
    harness.attend(layer);
  }
  harness.finish();
  harness.verify();
}

void steps_beyond_the_declared_chunk_are_refused(const Registry& registry,
                                                 const CacheCase& chosen) {
  CacheCase small = chosen;
  small.shape.max_step_tokens = 4;
  CacheHarness harness(registry, small);
  harness.step({{0, 4}, {1, 1}});
  if (!harness.traits().keeps_nothing) {
    require_throws<UserError>([&] { harness.begin({{1, 1}, {0, 5}}); },
                              "5 tokens where steps have 4");
  }
  harness.verify();
  harness.step({{0, 3}, {1, 4}});
}

void what_is_not_promised_is_refused(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  fill(harness);
  KVCache& cache = harness.cache();
  const CacheTraits& traits = harness.traits();
  const std::vector<int32_t> tokens = {1, 2, 3};
  if (!traits.forks) {
    require_throws<UserError>([&] { cache.fork(0, 2); }, "fork, which is not promised");
  }
  if (traits.truncation == Truncation::refused) {
    require_throws<UserError>([&] { cache.truncate(0, 3); }, "truncate, which is not promised");
  }
  if (!traits.shares_prefixes) {
    require_throws<UserError>([&] { cache.match_prefix(2, tokens); },
                              "match_prefix, which is not promised");
  }
  if (traits.feedback.kind == FeedbackRequest::Kind::none) {
    require_throws<UserError>([&] { cache.observe(0, NoFeedback()); },
                              "observe, which was not asked for");
  }
  harness.verify();
  harness.step({{0, 1}, {2, 1}});
}

}  // namespace kvlab::conformance

// Properties that every registered cache must have, one test per property and case. Registered at
// run time, so that a cache added to the registry is tested without an edit here.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "cache_harness.h"
#include "kvlab/core/error.h"

namespace kvlab::conformance {
namespace {

using Property = void (*)(const CacheCase&);

// Rows of unequal length, one of them empty.
void fill(CacheHarness& harness) { harness.step({{0, 7}, {1, 3}, {3, 11}}); }

/// Lengths around the sizes at which block and growth boundaries lie.
const std::vector<int64_t> kEdges = {0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 22, 23};

void token_by_token_gives_the_same_answer(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  harness.use_every_attention();
  for (int64_t i = 0; i < chosen.shape.max_length; ++i) harness.step({{2, 1}});
}

void any_chunking_gives_the_same_answer(const CacheCase& chosen) {
  for (const int64_t chunk : {2, 3, 4, 5, 6, 8, 23}) {
    CacheHarness harness(chosen);
    harness.use_every_attention();
    while (harness.room(1) > 0) harness.step({{1, std::min(chunk, harness.room(1))}});
  }
}

void rows_of_unequal_length_do_not_mix(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  harness.use_every_attention();
  harness.step({{3, 6}, {0, 1}, {2, 13}});
  harness.step({{0, 5}, {1, 2}, {2, 1}, {3, 1}});
  harness.step({{2, 9}, {1, 1}, {0, 1}});
  for (int i = 0; i < 4; ++i) harness.step({{1, 1}, {3, 2}, {0, 3}});
}

void rows_without_new_tokens_are_left_alone(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  harness.step({{0, 0}, {1, 4}, {2, 0}});
  harness.step({{1, 0}, {0, 5}, {3, 0}});
  harness.step({{0, 0}, {1, 0}});
  harness.step({});
  harness.step({{1, 1}, {0, 1}});
}

void forked_rows_diverge_independently(const CacheCase& chosen) {
  for (const int64_t length : kEdges) {
    if (length > chosen.shape.max_length - 3) continue;
    CacheHarness harness(chosen);
    if (length > 0) harness.step({{0, length}});
    harness.fork(0, 2);
    harness.step({{2, 2}});
    harness.step({{0, 1}});
    harness.step({{0, 1}, {2, 1}});
    harness.reset(0);
    harness.step({{2, 0}, {0, 3}});
  }
}

void forks_of_forks_write_in_one_step(const CacheCase& chosen) {
  for (const int64_t length : kEdges) {
    if (length > chosen.shape.max_length - 2) continue;
    CacheHarness harness(chosen);
    if (length > 0) harness.step({{1, length}});
    harness.fork(1, 0);
    harness.fork(0, 3);
    harness.step({{0, 1}, {3, 1}});
    harness.step({{3, 1}, {1, 1}, {0, 1}});
  }
}

void fork_replaces_what_the_target_held(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  fill(harness);
  harness.fork(1, 3);
  harness.fork(3, 3);
  harness.fork(2, 0);  // an empty row
  harness.step({{0, 2}, {1, 2}, {3, 4}});
}

void beam_reorder_with_repeats_keeps_every_beam(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  harness.step({{0, 4}});
  harness.fork(0, 1);
  for (int i = 0; i < 5; ++i) {
    harness.step({{0, 1}, {1, 1}});
    // Beams 0 and 1 become copies of beam i % 2, by way of spare rows.
    harness.fork(i % 2, 2);
    harness.fork(i % 2, 3);
    harness.fork(2, 0);
    harness.fork(3, 1);
    harness.reset(2);
    harness.reset(3);
  }
}

void truncating_to_any_length_is_as_if_never_fed(const CacheCase& chosen) {
  for (int64_t length = 0; length <= 13; ++length) {
    CacheHarness harness(chosen);
    harness.step({{0, 13}, {1, 6}});
    harness.truncate(0, length);
    harness.truncate(1, length / 3);  // rows roll back by different amounts
    harness.step({{0, 2}, {1, 1}});
    harness.truncate(0, length + 2);  // nothing to drop
    harness.step({{0, harness.room(0)}});
  }
}

void truncation_past_the_length_is_refused(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  fill(harness);
  EXPECT_THROW(harness.cache().truncate(0, -1), UserError);
  if (!harness.traits().keeps_nothing) {
    EXPECT_THROW(harness.cache().truncate(0, 8), UserError);
    EXPECT_THROW(harness.cache().truncate(2, 1), UserError);
  }
  harness.verify();
}

void truncated_forks_do_not_touch_each_other(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  harness.step({{0, 12}});
  harness.fork(0, 1);
  harness.truncate(1, 7);
  harness.step({{1, 3}});
  harness.truncate(0, 11);
  harness.step({{0, 2}});
  harness.fork(1, 2);
  harness.truncate(1, 0);
  harness.step({{1, 1}, {2, 1}});
}

void a_reset_row_is_like_new(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  for (int i = 0; i < 3; ++i) {
    harness.step({{0, chosen.shape.max_length - i}, {1, 2}});
    harness.reset(0);
    harness.reset(2);  // already empty
    harness.step({{0, 1}});
    harness.step({{0, 4}, {1, 1}});
    harness.reset(0);
  }
}

void a_full_row_refuses_the_step_and_nothing_changes(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  harness.step({{0, 22}, {1, 3}});
  EXPECT_THROW(harness.begin({{1, 2}, {0, 2}}), CapacityError);
  harness.verify();
  harness.step({{0, 1}});
  EXPECT_THROW(harness.begin({{1, 1}, {0, 1}}), CapacityError);
  harness.verify();
  harness.step({{0, 0}, {1, 1}});
  harness.truncate(0, 21);
  harness.step({{0, 2}});
}

void a_refused_step_changes_nothing_wherever_memory_ends(const CacheCase& chosen) {
  // Phase 0 starts empty, 1 behind text, 2 behind forks whose tails are shared.
  for (int phase = 0; phase < 3; ++phase) {
    for (int64_t k = 1;; ++k) {
      CacheHarness harness(chosen);
      if (phase > 0) fill(harness);
      if (phase > 1) {
        harness.fork(0, 2);
        harness.fork(0, 1);
      }
      const MemoryUsage before = harness.arena().usage();
      bool refused = false;
      harness.arena().fail_allocation(k);
      try {
        harness.begin({{0, 6}, {2, 7}, {1, 1}, {3, 1}});
      } catch (const CapacityError&) {
        refused = true;
      }
      harness.arena().fail_allocation(0);
      if (!refused) {
        harness.abort();
        harness.verify();
        break;
      }
      ASSERT_LT(k, 1000);
      if (chosen.refused_step_keeps_bytes) {
        EXPECT_EQ(harness.arena().usage().live, before.live) << "failing allocation " << k;
      }
      harness.verify();
      harness.step({{0, 6}, {2, 7}, {1, 1}, {3, 1}});
      harness.step({{0, 1}, {2, 1}, {1, 1}, {3, 1}});
    }
  }
}

void an_append_without_memory_can_be_aborted_and_retried(const CacheCase& chosen) {
  for (int64_t k = 1;; ++k) {
    CacheHarness harness(chosen);
    fill(harness);
    harness.fork(0, 2);
    harness.begin({{0, 6}, {2, 7}, {1, 1}, {3, 1}});
    bool failed = false;
    harness.arena().fail_allocation(k);
    try {
      for (int layer = 0; layer < chosen.shape.layers; ++layer) harness.append(layer);
    } catch (const CapacityError&) {
      failed = true;
    }
    harness.arena().fail_allocation(0);
    harness.abort();
    harness.verify();
    harness.step({{0, 6}, {2, 7}, {1, 1}, {3, 1}});
    harness.step({{0, 1}, {3, 3}});
    if (!failed) break;
    ASSERT_LT(k, 1000);
  }
}

void a_fork_without_memory_leaves_the_source_alone(const CacheCase& chosen) {
  for (int64_t k = 1;; ++k) {
    CacheHarness harness(chosen);
    fill(harness);
    bool failed = false;
    harness.arena().fail_allocation(k);
    try {
      harness.cache().fork(3, 1);
    } catch (const CapacityError&) {
      failed = true;
    }
    harness.arena().fail_allocation(0);
    if (!failed) break;
    ASSERT_LT(k, 1000);
    harness.reset(1);  // a fork that fails leaves its target empty
    harness.fork(3, 1);
    harness.step({{1, 1}, {3, 1}});
  }
}

void an_abort_in_any_phase_restores_everything(const CacheCase& chosen) {
  const int last = 2 * static_cast<int>(chosen.shape.layers);
  for (int phase = 0; phase <= last; ++phase) {
    CacheHarness harness(chosen);
    fill(harness);
    harness.fork(0, 2);
    const std::vector<Feed> feeds = {{0, 6}, {2, 1}, {1, 0}, {3, 2}};
    harness.begin(feeds);
    for (int done = 0; done < phase; ++done) {
      done % 2 == 0 ? harness.append(done / 2) : harness.attend(done / 2);
    }
    harness.abort();
    harness.verify();
    harness.cache().abort_step();  // nothing runs: no effect
    harness.verify();
    harness.step(feeds);
    harness.step({{0, 1}, {2, 1}});
  }
}

void an_aborted_first_step_leaves_an_empty_cache(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  harness.begin({{0, 9}, {1, 5}});
  harness.append(0);
  harness.abort();
  harness.verify();
  EXPECT_EQ(payload_bytes(harness.cache(), chosen.shape), 0);
  harness.step({{1, 9}, {0, 5}});
}

void keys_and_values_of_another_kind_are_refused(const CacheCase& chosen) {
  const CacheShape& s = chosen.shape;
  CacheHarness harness(chosen);
  fill(harness);
  harness.begin({{0, 2}, {1, 1}});
  const auto keys = [&](at::ScalarType type, int64_t n, int64_t g, int64_t d) {
    return at::zeros({n, g, d}, type);
  };
  const at::Tensor key = keys(s.dtype, 3, s.kv_heads, s.key_dim);
  const at::Tensor value = keys(s.dtype, 3, s.kv_heads, s.value_dim);
  const at::ScalarType other = s.dtype == at::kFloat ? at::kBFloat16 : at::kFloat;
  KVCache& cache = harness.cache();
  EXPECT_THROW(cache.append(0, key.to(other), value), UserError);
  EXPECT_THROW(cache.append(0, key, value.to(other)), UserError);
  EXPECT_THROW(cache.append(0, key.to(at::kLong), value), UserError);
  EXPECT_THROW(cache.append(0, keys(s.dtype, 2, s.kv_heads, s.key_dim), value), UserError);
  EXPECT_THROW(cache.append(0, keys(s.dtype, 1, s.kv_heads, s.key_dim), value), UserError);
  EXPECT_THROW(cache.append(0, keys(s.dtype, 3, s.kv_heads + 1, s.key_dim), value), UserError);
  EXPECT_THROW(cache.append(0, keys(s.dtype, 3, s.kv_heads, s.key_dim + 1), value), UserError);
  EXPECT_THROW(cache.append(0, key, keys(s.dtype, 3, s.kv_heads, s.value_dim - 1)), UserError);
  EXPECT_THROW(cache.append(0, key.flatten(0, 1), value), UserError);
  EXPECT_THROW(
      cache.append(0, keys(s.dtype, 3, s.kv_heads, 2 * s.key_dim).slice(2, 0, 2 * s.key_dim, 2),
                   value),
      UserError);
  EXPECT_THROW(cache.append(-1, key, value), UserError);
  EXPECT_THROW(cache.append(2, key, value), UserError);
  harness.abort();
  harness.verify();
  EXPECT_THROW(cache.append(0, key, value), UserError);  // no step runs
  harness.step({{0, 2}, {1, 1}});
}

void rows_and_layers_that_do_not_exist_are_refused(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  fill(harness);
  KVCache& cache = harness.cache();
  KVView view;
  for (const int row : {-1, 4, 99}) {
    EXPECT_THROW(cache.length(row), UserError);
    EXPECT_THROW(cache.reset(row), UserError);
    EXPECT_THROW(cache.truncate(row, 0), UserError);
    EXPECT_THROW(cache.fork(row, 0), UserError);
    EXPECT_THROW(cache.fork(0, row), UserError);
    EXPECT_THROW(cache.inspect(0, row, view), UserError);
    StepPlan plan;
    const std::vector<int32_t> token = {1};
    RowSlice slice;
    slice.row = row;
    slice.count = 1;
    plan.add(slice, token);
    EXPECT_THROW(cache.begin_step(plan), UserError);
  }
  EXPECT_THROW(cache.inspect(-1, 0, view), UserError);
  EXPECT_THROW(cache.inspect(2, 0, view), UserError);
  harness.verify();
}

void a_step_starts_at_the_length(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  fill(harness);
  for (const int64_t first : {int64_t{1}, int64_t{6}, int64_t{8}}) {
    StepPlan plan;
    const std::vector<int32_t> token = {1};
    RowSlice slice;
    slice.first_position = first;
    slice.count = 1;
    plan.add(slice, token);
    EXPECT_THROW(harness.cache().begin_step(plan), UserError);
  }
  harness.verify();
}

void a_view_needs_its_layer_appended_in_this_step(const CacheCase& chosen) {
  const CacheShape& s = chosen.shape;
  CacheHarness harness(chosen);
  const at::Tensor query = at::zeros({2, s.query_heads, s.key_dim}, at::kFloat);
  EXPECT_THROW(harness.cache().view(0, query), UserError);
  harness.step({{0, 2}});
  EXPECT_THROW(harness.cache().view(0, query), UserError);
  harness.begin({{0, 2}});
  EXPECT_THROW(harness.cache().view(0, query), UserError);
  harness.append(0);
  harness.attend(0);
  harness.attend(0);  // any number of times
  EXPECT_THROW(harness.cache().view(1, query), UserError);
  EXPECT_THROW(harness.cache().view(-1, query), UserError);
  EXPECT_THROW(harness.cache().view(2, query), UserError);
  harness.append(1);
  harness.attend(1);
  harness.attend(0);  // an earlier layer again
  harness.finish();
  harness.verify();
}

void operations_inside_a_step_are_refused(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  fill(harness);
  harness.begin({{0, 1}});
  KVView view;
  KVCache& cache = harness.cache();
  EXPECT_THROW(cache.inspect(0, 0, view), UserError);
  EXPECT_THROW(cache.reset(1), UserError);
  EXPECT_THROW(cache.truncate(1, 0), UserError);
  EXPECT_THROW(cache.fork(0, 2), UserError);
  EXPECT_THROW(cache.begin_step(harness.plan()), UserError);
  for (int layer = 0; layer < chosen.shape.layers; ++layer) {
    harness.append(layer);
    harness.attend(layer);
  }
  harness.finish();
  harness.verify();
}

void steps_beyond_the_declared_chunk_are_refused(const CacheCase& chosen) {
  CacheCase small = chosen;
  small.shape.max_step_tokens = 4;
  CacheHarness harness(small);
  harness.step({{0, 4}, {1, 1}});
  if (!harness.traits().keeps_nothing) {
    EXPECT_THROW(harness.begin({{1, 1}, {0, 5}}), UserError);
  }
  harness.verify();
  harness.step({{0, 3}, {1, 4}});
}

void two_instances_do_not_know_each_other(const CacheCase& chosen) {
  CacheHarness first(chosen, 1), second(chosen, 2);
  first.step({{0, 5}, {1, 2}});
  second.step({{0, 9}});
  first.begin({{0, 3}});
  second.step({{0, 1}, {1, 1}});
  first.append(0);
  second.reset(0);
  first.append(1);
  first.attend(1);
  first.attend(0);
  first.finish();
  first.verify();
  second.verify();
}

void two_views_of_a_layer_are_the_same(const CacheCase& chosen) {
  CacheHarness harness(chosen, 3);
  fill(harness);
  harness.begin({{0, 2}, {1, 1}});
  harness.append(0);
  const at::Tensor query =
      at::zeros({harness.plan().num_tokens(), chosen.shape.query_heads, chosen.shape.key_dim});
  const KVView kept = harness.cache().view(0, query);
  const KVView& again = harness.cache().view(0, query);
  ASSERT_EQ(kept.num_slices(), again.num_slices());
  for (int64_t slice = 0; slice < kept.num_slices(); ++slice) {
    const auto first = kept.segments(slice), second = again.segments(slice);
    ASSERT_EQ(first.size(), second.size());
    for (size_t i = 0; i < first.size(); ++i) {
      EXPECT_EQ(first[i].keys.data, second[i].keys.data);
      EXPECT_EQ(first[i].values.data, second[i].values.data);
      EXPECT_EQ(first[i].count, second[i].count);
    }
  }
  harness.abort();
}

void payload_counts_every_live_entry_once(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  const CacheShape& s = chosen.shape;
  CacheShape stored = s;
  stored.kv_heads = chosen.stored_heads;
  const int64_t token = stored.token_bytes_per_layer() * s.layers;
  const bool nothing = harness.traits().keeps_nothing;
  const auto payload = [&] { return payload_bytes(harness.cache(), s); };
  EXPECT_EQ(payload(), 0);
  fill(harness);
  EXPECT_EQ(payload(), nothing ? 0 : (7 + 3 + 11) * token);
  const int64_t storage = harness.arena().usage().live_bytes(MemoryKind::storage);
  EXPECT_LE(payload(), storage);
  harness.fork(3, 2);
  // Shared or copied: both are allowed, and only what exists is counted.
  const int64_t forked = nothing ? 0 : payload() / token;
  if (!nothing) {
    EXPECT_TRUE(forked == 21 || forked == 32) << forked;
  }
  EXPECT_LE(payload(), harness.arena().usage().live_bytes(MemoryKind::storage));
  harness.reset(3);
  EXPECT_EQ(payload(), nothing ? 0 : (7 + 3 + 11) * token);
  for (int row = 0; row < 4; ++row) harness.reset(row);
  EXPECT_EQ(payload(), 0);
}

void fragmentation_is_a_share(const CacheCase& chosen) {
  CacheHarness harness(chosen);
  const auto share = [&] { return harness.cache().fragmentation(); };
  const auto wanted = [&] {
    const auto storage =
        static_cast<double>(harness.arena().usage().live_bytes(MemoryKind::storage));
    const auto live = static_cast<double>(payload_bytes(harness.cache(), chosen.shape));
    return storage == 0 ? 0 : 1 - live / storage;
  };
  EXPECT_NEAR(share(), wanted(), 1e-12);
  fill(harness);
  EXPECT_NEAR(share(), wanted(), 1e-12);
  harness.fork(3, 2);
  EXPECT_NEAR(share(), wanted(), 1e-12);
  harness.truncate(3, 4);
  EXPECT_NEAR(share(), wanted(), 1e-12);
  harness.reset(3);
  EXPECT_NEAR(share(), wanted(), 1e-12);
}

void all_memory_comes_back(const CacheCase& chosen) {
  StorageArena arena(ArenaOptions{.poison = true});
  {
    const auto cache = builtin_registry().make_cache(parse_component_spec(chosen.spec),
                                                     chosen.shape, arena);
  }
  EXPECT_EQ(arena.usage().live_total(), 0);
}

void a_constructor_without_memory_holds_none(const CacheCase& chosen) {
  for (int64_t k = 1;; ++k) {
    StorageArena arena;
    arena.fail_allocation(k);
    try {
      builtin_registry().make_cache(parse_component_spec(chosen.spec), chosen.shape, arena);
      break;
    } catch (const CapacityError&) {
      EXPECT_EQ(arena.usage().live_total(), 0) << "failing allocation " << k;
    }
    ASSERT_LT(k, 1000);
  }
}

void random_operations(const CacheCase& chosen) {
  const uint64_t seed = 20260 + std::hash<std::string>{}(chosen.name) % 1000;
  SCOPED_TRACE("seed " + std::to_string(seed));
  testing::Test::RecordProperty("seed", std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto below = [&](int64_t n) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(n));
  };
  CacheHarness harness(chosen, seed);
  const int operations = chosen.first_of_options ? 2000 : 120;
  for (int i = 0; i < operations; ++i) {
    const int row = static_cast<int>(below(harness.rows()));
    SCOPED_TRACE("operation " + std::to_string(i));
    const int64_t choice = below(100);
    std::vector<Feed> feeds;
    for (int r = 0; r < harness.rows(); ++r) {
      if (below(2) == 0) continue;
      const int64_t most = below(4) == 0 ? harness.room(r) : std::min<int64_t>(2, harness.room(r));
      feeds.push_back({r, below(most + 1)});
    }
    std::shuffle(feeds.begin(), feeds.end(), random);
    if (choice < 55) {
      harness.step(feeds);
    } else if (choice < 63) {
      harness.begin(feeds);
      const int64_t appended = below(chosen.shape.layers + 1);
      for (int layer = 0; layer < appended; ++layer) harness.append(layer);
      harness.abort();
      harness.verify();
    } else if (choice < 71) {
      harness.arena().fail_allocation(1 + below(6));
      bool begun = false;
      try {
        harness.begin(feeds);
        begun = true;
        for (int layer = 0; layer < chosen.shape.layers; ++layer) harness.append(layer);
        harness.finish();
      } catch (const CapacityError&) {
        if (begun) harness.abort();
      }
      harness.arena().fail_allocation(0);
      harness.verify();
    } else if (choice < 83) {
      harness.truncate(row, below(harness.length(row) + 1));
    } else if (choice < 94) {
      harness.fork(row, static_cast<int>(below(harness.rows())));
    } else if (choice < 97) {
      harness.reset(row);
    } else {
      EXPECT_THROW(harness.begin({{row, harness.room(row) + 1}}), UserError);
      harness.verify();
    }
    if (testing::Test::HasFailure()) return;
  }
}

struct NamedProperty {
  const char* name;
  Property run;
  bool (*applies)(const CacheTraits&);
};

bool always(const CacheTraits&) { return true; }
bool forks(const CacheTraits& traits) { return traits.forks; }
bool truncates(const CacheTraits& traits) { return traits.truncation == Truncation::exact; }
bool both(const CacheTraits& traits) { return forks(traits) && truncates(traits); }

const std::vector<NamedProperty> kProperties = {
    {"TokenByTokenGivesTheSameAnswer", token_by_token_gives_the_same_answer, always},
    {"AnyChunkingGivesTheSameAnswer", any_chunking_gives_the_same_answer, always},
    {"RowsOfUnequalLengthDoNotMix", rows_of_unequal_length_do_not_mix, always},
    {"RowsWithoutNewTokensAreLeftAlone", rows_without_new_tokens_are_left_alone, always},
    {"ForkedRowsDivergeIndependently", forked_rows_diverge_independently, forks},
    {"ForksOfForksWriteInOneStep", forks_of_forks_write_in_one_step, forks},
    {"ForkReplacesWhatTheTargetHeld", fork_replaces_what_the_target_held, forks},
    {"BeamReorderWithRepeatsKeepsEveryBeam", beam_reorder_with_repeats_keeps_every_beam, forks},
    {"TruncatingToAnyLengthIsAsIfNeverFed", truncating_to_any_length_is_as_if_never_fed, truncates},
    {"TruncationPastTheLengthIsRefused", truncation_past_the_length_is_refused, truncates},
    {"TruncatedForksDoNotTouchEachOther", truncated_forks_do_not_touch_each_other, both},
    {"AResetRowIsLikeNew", a_reset_row_is_like_new, always},
    {"AFullRowRefusesTheStepAndNothingChanges", a_full_row_refuses_the_step_and_nothing_changes,
     truncates},
    {"ARefusedStepChangesNothingWhereverMemoryEnds",
     a_refused_step_changes_nothing_wherever_memory_ends, forks},
    {"AnAppendWithoutMemoryCanBeAbortedAndRetried",
     an_append_without_memory_can_be_aborted_and_retried, forks},
    {"AForkWithoutMemoryLeavesTheSourceAlone", a_fork_without_memory_leaves_the_source_alone,
     forks},
    {"AnAbortInAnyPhaseRestoresEverything", an_abort_in_any_phase_restores_everything, forks},
    {"AnAbortedFirstStepLeavesAnEmptyCache", an_aborted_first_step_leaves_an_empty_cache, always},
    {"KeysAndValuesOfAnotherKindAreRefused", keys_and_values_of_another_kind_are_refused, always},
    {"RowsAndLayersThatDoNotExistAreRefused", rows_and_layers_that_do_not_exist_are_refused, both},
    {"AStepStartsAtTheLength", a_step_starts_at_the_length, always},
    {"AViewNeedsItsLayerAppendedInThisStep", a_view_needs_its_layer_appended_in_this_step, always},
    {"OperationsInsideAStepAreRefused", operations_inside_a_step_are_refused, both},
    {"StepsBeyondTheDeclaredChunkAreRefused", steps_beyond_the_declared_chunk_are_refused, always},
    {"TwoInstancesDoNotKnowEachOther", two_instances_do_not_know_each_other, always},
    {"TwoViewsOfALayerAreTheSame", two_views_of_a_layer_are_the_same, always},
    {"PayloadCountsEveryLiveEntryOnce", payload_counts_every_live_entry_once, forks},
    {"FragmentationIsTheShareOfEmptyBytes", fragmentation_is_a_share, both},
    {"AllMemoryComesBack", all_memory_comes_back, always},
    {"AConstructorWithoutMemoryHoldsNone", a_constructor_without_memory_holds_none, always},
    {"RandomOperations", random_operations, both},
};

class PropertyTest : public testing::Test {
 public:
  PropertyTest(const CacheCase& chosen, Property property)
      : chosen_(chosen), property_(property) {}
  void TestBody() override { property_(chosen_); }

 private:
  CacheCase chosen_;
  Property property_;
};

/// Properties left out because a cache's traits do not promise them: "case/property".
std::vector<std::string>& left_out() {
  static std::vector<std::string> names;
  return names;
}

int register_cache_conformance() {
  int count = 0;
  for (const CacheCase& chosen : cache_cases(builtin_registry())) {
    const CacheTraits traits =
        builtin_registry().cache_traits(parse_component_spec(chosen.spec), chosen.shape);
    for (const NamedProperty& property : kProperties) {
      if (!property.applies(traits)) {
        left_out().push_back(chosen.name + "/" + property.name);
        continue;
      }
      const Property run = property.run;
      testing::RegisterTest("CacheConformance", (chosen.name + "/" + property.name).c_str(),
                            nullptr, nullptr, __FILE__, __LINE__,
                            [chosen, run]() -> testing::Test* {
                              return new PropertyTest(chosen, run);
                            });
      ++count;
    }
  }
  return count;
}

// Before main, since GoogleTest wants to know all tests when it starts.
const int kRegistered = register_cache_conformance();

TEST(CacheConformanceCoverage, EveryRegisteredCacheHasCases) {
  std::set<std::string> covered;
  for (const CacheCase& chosen : cache_cases(builtin_registry())) covered.insert(chosen.plugin);
  for (const CacheEntry& entry : builtin_registry().caches()) {
    EXPECT_TRUE(covered.contains(entry.info.name)) << entry.info.name;
  }
  EXPECT_GT(kRegistered, 0);
}

TEST(CacheConformanceCoverage, NothingIsLeftOutThatIsNotListedHere) {
  // The shipped caches promise everything. A cache that does not fork or truncate adds rows here.
  const std::vector<std::string> expected = {};
  EXPECT_EQ(left_out(), expected);
}

}  // namespace
}  // namespace kvlab::conformance

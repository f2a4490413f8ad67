// Properties that compare answers: with the oracle, and bit for bit with another run.
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "cache_property_functions.h"
#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"
#include "stored_numbers.h"

namespace kvlab::conformance {

void token_by_token_gives_the_same_answer(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  harness.use_every_attention();
  for (int64_t i = 0; i < chosen.shape.max_length; ++i) harness.step({{2, 1}});
}

void any_chunking_gives_the_same_answer(const Registry& registry, const CacheCase& chosen) {
  for (const int64_t chunk : {2, 3, 4, 5, 6, 8, 23}) {
    CacheHarness harness(registry, chosen);
    harness.use_every_attention();
    while (harness.room(1) > 0) harness.step({{1, std::min(chunk, harness.room(1))}});
  }
}

// Storage of a bounded cache follows the chunk: only small ones make it wrap around.
void short_chunks_give_the_same_answer(const Registry& registry, const CacheCase& chosen) {
  for (const int64_t chunk : {1, 2, 3, 5}) {
    CacheCase small = chosen;
    small.shape.max_step_tokens = chunk;
    CacheHarness harness(registry, small);
    harness.use_every_attention();
    harness.step({{3, 1}});
    while (harness.room(1) > 0) {
      harness.step({{1, std::min(chunk, harness.room(1))}, {3, harness.room(3) > 0 ? 1 : 0}});
    }
    harness.reset(1);
    while (harness.room(1) > 0) {
      const int64_t count = 1 + harness.length(1) % chunk;
      harness.step({{1, std::min(count, harness.room(1))}});
      harness.begin({{1, std::min(chunk, harness.room(1))}, {2, 1}});  // and one in vain
      harness.append(0);
      harness.abort();
      harness.verify();
    }
  }
}

void lengths_around_every_edge_give_the_same_answer(const Registry& registry,
                                                    const CacheCase& chosen) {
  for (const int64_t edge : edge_lengths(registry, chosen)) {
    if (edge == 0) continue;
    CacheHarness harness(registry, chosen);
    harness.step({{0, edge}});
    for (int i = 0; i < 2; ++i) harness.step({{0, std::min<int64_t>(1, harness.room(0))}});
    while (harness.room(3) > 0) harness.step({{3, std::min(edge, harness.room(3))}});
  }
}

void rows_of_unequal_length_do_not_mix(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  harness.use_every_attention();
  harness.step({{3, 6}, {0, 1}, {2, 13}});
  harness.step({{0, 5}, {1, 2}, {2, 1}, {3, 1}});
  harness.step({{2, 9}, {1, 1}, {0, 1}});
  for (int i = 0; i < 4; ++i) harness.step({{1, 1}, {3, 2}, {0, 3}});
}

void rows_without_new_tokens_are_left_alone(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  harness.step({{0, 0}, {1, 4}, {2, 0}});
  harness.step({{1, 0}, {0, 5}, {3, 0}});
  harness.step({{0, 0}, {1, 0}});
  harness.step({});
  harness.step({{1, 1}, {0, 1}});
}

namespace {

constexpr int32_t kOtherTexts = 900'000'000;

const std::vector<std::vector<Feed>> kRagged = {
    {{0, 7}, {1, 3}, {3, 11}}, {{0, 1}, {1, 1}, {3, 1}}, {{1, 4}, {0, 2}, {2, 5}},
    {{0, 1}, {1, 1}, {2, 1}},  {{3, 1}, {0, 3}},
};

// kRagged in steps as long as the case has them.
std::vector<std::vector<Feed>> ragged_steps(const CacheHarness& harness) {
  std::vector<std::vector<Feed>> steps;
  for (const std::vector<Feed>& feeds : kRagged) {
    for (const std::vector<Feed>& part : harness.parts(feeds)) steps.push_back(part);
  }
  return steps;
}

// The outputs that the step gave row `row`, layer by layer.
std::vector<at::Tensor> outputs_of(const CacheHarness& harness, int row) {
  std::vector<at::Tensor> outputs;
  for (const RowSlice& slice : harness.plan().slices()) {
    if (slice.row != row) continue;
    for (const at::Tensor& output : harness.outputs()) {
      outputs.push_back(output.narrow(0, slice.offset, slice.count));
    }
  }
  return outputs;
}

void require_same_bits(const CacheHarness& one, const CacheHarness& other, int row, size_t step,
                       const char* what) {
  const std::vector<at::Tensor> first = outputs_of(one, row), second = outputs_of(other, row);
  require(first.size() == second.size(), what, ": row ", row, " has other layers");
  for (size_t layer = 0; layer < first.size(); ++layer) {
    require(at::equal(first[layer], second[layer]), what, ": step ", step, ", row ", row,
            ", layer ", layer, " has other bits");
  }
}

}  // namespace

void answers_repeat_bit_for_bit(const Registry& registry, const CacheCase& chosen) {
  CacheHarness first(registry, chosen, 5), again(registry, chosen, 5), other(registry, chosen, 5);
  for (CacheHarness* harness : {&first, &again, &other}) harness->use_every_attention();
  for (const int row : {1, 2, 3}) other.count_tokens_from(row, kOtherTexts + row * 1000);
  const std::vector<std::vector<Feed>> steps = ragged_steps(first);
  for (size_t step = 0; step < steps.size(); ++step) {
    first.step(steps[step]);
    again.step(steps[step]);
    other.step(steps[step]);
    for (int row = 0; row < 4; ++row) {
      require_same_bits(first, again, row, step, "the same operations again");
    }
    require_same_bits(first, other, 0, step, "other texts in the other rows");
  }
}

void placement_is_invisible(const Registry& registry, const CacheCase& chosen) {
  CacheHarness fresh(registry, chosen, 6), used(registry, chosen, 6);
  for (const int row : {0, 1, 2, 3}) used.count_tokens_from(row, kOtherTexts + row * 1000);
  used.step({{3, 9}, {1, 13}, {0, 2}});
  used.step({{2, 6}, {0, 4}, {1, 1}});
  if (used.traits().forks) used.fork(1, 3);
  used.reset(1);
  used.step({{3, 5}, {1, 8}});
  for (const int row : {3, 0, 1, 2}) used.reset(row);
  for (const int row : {0, 1, 2, 3}) {
    const int32_t first = 100'000'000 + row * 1000;
    fresh.count_tokens_from(row, first);
    used.count_tokens_from(row, first);
  }
  for (CacheHarness* harness : {&fresh, &used}) {
    harness->use_every_attention();
    harness->reseed(7);
  }
  const std::vector<std::vector<Feed>> steps = ragged_steps(fresh);
  for (size_t step = 0; step < steps.size(); ++step) {
    fresh.step(steps[step]);
    used.step(steps[step]);
    for (int row = 0; row < 4; ++row) {
      require_same_bits(fresh, used, row, step, "after other texts");
    }
  }
}

void sliced_sources_give_the_same_bits(const Registry& registry, const CacheCase& chosen) {
  CacheHarness own(registry, chosen, 8), fused(registry, chosen, 8);
  own.use_source(Source::own);
  fused.use_source(Source::fused);
  for (CacheHarness* harness : {&own, &fused}) harness->use_every_attention();
  const std::vector<std::vector<Feed>> steps = ragged_steps(own);
  for (size_t step = 0; step < steps.size(); ++step) {
    own.step(steps[step]);
    fused.step(steps[step]);
    // A cache that points at the step's own tensors gives attention other strides.
    if (own.traits().keeps_nothing) continue;
    for (int row = 0; row < 4; ++row) {
      require_same_bits(own, fused, row, step, "K and V out of a wider tensor");
    }
  }
}

void two_instances_do_not_know_each_other(const Registry& registry, const CacheCase& chosen) {
  CacheHarness first(registry, chosen, 1), second(registry, chosen, 2);
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

// Keys of 2^23 elements: where 64 entries of 6 heads are reserved in one run by heads, its last head
// begins 2.7 * 10^9 elements behind the start. Storage is only reserved; one entry is touched. What
// takes storage as it needs it stays below: addresses in blocks and runs have their own unit tests.
void addresses_are_64_bit(const Registry& registry, const CacheCase& chosen) {
  CacheCase large = chosen;
  CacheShape& s = large.shape;
  s.layers = s.rows = 1;
  s.query_heads = s.kv_heads = 6;
  s.key_dim = int64_t{1} << 23;
  s.value_dim = 1;
  s.max_length = s.max_step_tokens = 64;
  s.dtype = at::kBFloat16;
  StorageArena arena;
  const auto cache = registry.make_cache(parse_component_spec(large.spec), s, arena);
  StepPlan plan;
  RowSlice slice;
  slice.count = 1;
  plan.add(slice, std::vector<int32_t>{1});
  at::Tensor key = at::zeros({1, s.kv_heads, s.key_dim}, s.dtype);
  at::Tensor value = at::zeros({1, s.kv_heads, s.value_dim}, s.dtype);
  for (int64_t head = 0; head < s.kv_heads; ++head) {
    key[0][head].fill_(static_cast<double>(head + 1));
    value[0][head].fill_(-static_cast<double>(head + 1));
  }
  cache->begin_step(plan);
  cache->append(0, key, value);
  const KVView& view = cache->view(0, at::zeros({1, s.query_heads, 1}));
  const CacheTraits& traits = cache->traits();
  const int64_t group = s.kv_heads / view.num_kv_heads();
  for (const KVSegment& segment : view.segments(0)) {
    for (int head = segment.head_begin; head < segment.head_end; ++head) {
      for (const int64_t dim : {int64_t{0}, s.key_dim - 1}) {
        const int local = head - segment.head_begin;
        const double got = number_at(segment.keys, local, 0, dim);
        // A pooled head lies between the heads it was made of, a code within half a scale.
        const double off = holds_codes(segment.keys) ? scale_at(segment.keys, local, 0) / 2 : 0;
        const bool right = traits.exact ? got == static_cast<double>(head + 1)
                                        : got >= static_cast<double>(head * group + 1) - off &&
                                              got <= static_cast<double>((head + 1) * group) + off;
        require(right, "key element ", dim, " of head ", head, " is ", got,
                " where storage is longer than 2^31 elements");
      }
    }
  }
  // Destroyed inside the step: dropping entries may poison, and so touch, all of the storage.
}

}  // namespace kvlab::conformance

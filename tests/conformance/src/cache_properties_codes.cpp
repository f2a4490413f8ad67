// Properties of numbers that a cache keeps as codes, and of those that are none.
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "cache_property_functions.h"
#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"
#include "stored_numbers.h"

namespace kvlab::conformance {

namespace {

// Of a scale: fp32 rounding of quotients up to 127.
constexpr double kSlack = 1e-4;

// A scale above this share of the largest number gives less than 7 bits.
constexpr double kCoarsest = 64;

/// The number that was given at (position, head, dim) of keys or values.
using Given = std::function<double(bool keys, int64_t position, int64_t head, int64_t dim)>;

// The codes of one entry and head against the numbers that were given.
void check_entry(const KVPlane& plane, int64_t local_head, int64_t entry,
                 const std::vector<double>& given, const std::string& where) {
  const double scale = scale_at(plane, local_head, entry);
  double largest = 0;
  for (const double number : given) largest = std::max(largest, std::abs(number));
  require(scale >= 0 && scale <= largest / kCoarsest, where, "the scale is ", scale,
          " where the largest number is ", largest);
  for (size_t d = 0; d < given.size(); ++d) {
    const double got = number_at(plane, local_head, entry, static_cast<int64_t>(d));
    require(std::abs(got - given[d]) <= (0.5 + kSlack) * scale, where, "element ", d, " is ", got,
            ", given was ", given[d], ", the scale is ", scale);
  }
}

// Every code of one row and layer. What pools or repeats heads is left to the oracle.
void check_codes(const KVCache& cache, const CacheShape& shape, int layer, int row,
                 const Given& given) {
  KVView view;
  cache.inspect(layer, row, view);
  for (const KVSegment& segment : view.segments(0)) {
    for (const bool keys : {true, false}) {
      const KVPlane& plane = keys ? segment.keys : segment.values;
      if (!holds_codes(plane)) continue;
      require(!cache.traits().exact, "row ", row, " layer ", layer,
              ": the traits say exact, and the cache keeps codes");
      if (view.num_kv_heads() != shape.kv_heads) continue;
      std::vector<double> numbers(static_cast<size_t>(keys ? view.key_dim() : view.value_dim()));
      for (int64_t head = segment.head_begin; head < segment.head_end; ++head) {
        for (int64_t e = 0; e < segment.count; ++e) {
          for (size_t d = 0; d < numbers.size(); ++d) {
            numbers[d] = given(keys, segment.position(e), head, static_cast<int64_t>(d));
          }
          check_entry(plane, head - segment.head_begin, e, numbers,
                      detail::concat("row ", row, " layer ", layer, " head ", head, " position ",
                                     segment.position(e), keys ? " keys: " : " values: "));
        }
      }
    }
  }
}

void check_texts(const CacheHarness& harness, const KVCache& cache) {
  const CacheShape& shape = harness.shape();
  for (int row = 0; row < shape.rows; ++row) {
    const std::vector<int32_t>& text = harness.oracle().text(row);
    for (int layer = 0; layer < shape.layers; ++layer) {
      check_codes(
          cache, shape, layer, row, [&](bool keys, int64_t position, int64_t head, int64_t d) {
            const int32_t token = text[static_cast<size_t>(position)];
            return round_to(
                keys ? token_key(token, layer, head, d) : token_value(token, layer, head, d),
                shape.dtype);
          });
    }
  }
}

// Entries whose magnitudes differ by orders: no scale of another entry or head will do.
double of_any_magnitude(bool keys, int64_t position, int64_t head, int64_t dim) {
  const double number = static_cast<double>((dim * 5 + head) % 7 - 3) + (keys ? 0.25 : 0.75);
  switch (position % 4) {
    case 0: return 0;
    case 1: return std::ldexp(number, static_cast<int>(8 * head));
    case 2: return dim == 0 ? 3e4 : number;
    default: return std::ldexp(number, -static_cast<int>(40 + 8 * head));
  }
}

// One step of row 0 with `tokens` tokens; `given` says what they hold. What happens to it is up to
// the caller.
void append_given(KVCache& cache, const CacheShape& shape, StepPlan& plan, int64_t tokens,
                  const Given& given) {
  RowSlice slice;
  slice.first_position = cache.length(0);
  slice.count = tokens;
  plan.clear();
  plan.add(slice, std::vector<int32_t>(static_cast<size_t>(tokens), 1));
  const auto made = [&](bool keys) {
    const int64_t dim = keys ? shape.key_dim : shape.value_dim;
    at::Tensor heads = at::zeros({tokens, shape.kv_heads, dim}, at::kFloat);
    float* next = heads.mutable_data_ptr<float>();
    for (int64_t token = 0; token < tokens; ++token) {
      for (int64_t head = 0; head < shape.kv_heads; ++head) {
        for (int64_t d = 0; d < dim; ++d) {
          *next++ = static_cast<float>(given(keys, slice.first_position + token, head, d));
        }
      }
    }
    return heads.to(shape.dtype);
  };
  cache.begin_step(plan);
  for (int layer = 0; layer < shape.layers; ++layer) cache.append(layer, made(true), made(false));
}

bool is_finite(const KVPlane& plane, int64_t head, int64_t entry, int64_t dim) {
  for (int64_t d = 0; d < dim; ++d) {
    if (!std::isfinite(number_at(plane, head, entry, d))) return false;
  }
  return true;
}

// Whether stored head `head` of `stored` ones is made of the given one. Heads may be pooled or
// repeated.
bool made_of(int64_t head, int64_t stored, int64_t given_head, int64_t given_heads) {
  return stored < given_heads ? head == given_head * stored / given_heads
                              : head * given_heads / stored == given_head;
}

}  // namespace

void codes_are_within_half_a_scale(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen, 9);
  const KVCache& cache = harness.cache();
  const CacheTraits& traits = harness.traits();
  harness.step({{0, 7}, {1, 3}, {3, 11}});
  check_texts(harness, cache);
  // Other tokens where these have been.
  if (traits.truncation == Truncation::exact) harness.truncate(3, 4);
  harness.step({{3, 5}});
  harness.reset(0);
  harness.step({{0, 9}});
  check_texts(harness, cache);
  if (traits.forks) {
    harness.fork(3, 2);
    harness.step({{2, 2}, {3, 1}});
    check_texts(harness, cache);
  }
  StorageArena arena(ArenaOptions{.poison = true});
  const auto other = registry.make_cache(parse_component_spec(chosen.spec), chosen.shape, arena);
  StepPlan plan;
  for (int64_t token = 0; token < 8 && !traits.keeps_nothing; ++token) {
    append_given(*other, chosen.shape, plan, 1, of_any_magnitude);
    other->end_step();
  }
  for (int layer = 0; layer < chosen.shape.layers; ++layer) {
    check_codes(*other, chosen.shape, layer, 0,
                [&](bool keys, int64_t position, int64_t head, int64_t d) {
                  return round_to(of_any_magnitude(keys, position, head, d), chosen.shape.dtype);
                });
  }
}

void what_is_not_a_number_comes_out_as_none(const Registry& registry, const CacheCase& chosen) {
  const CacheShape& shape = chosen.shape;
  const float infinity = std::numeric_limits<float>::infinity();
  const int64_t odd_head = shape.kv_heads - 1, odd_position = 1;
  const auto check = [&](const KVView& view, float odd, bool odd_keys) {
    for (const KVSegment& segment : view.segments(0)) {
      for (int64_t head = segment.head_begin; head < segment.head_end; ++head) {
        const bool of_odd_head = made_of(head, view.num_kv_heads(), odd_head, shape.kv_heads);
        for (int64_t e = 0; e < segment.count; ++e) {
          const bool there = of_odd_head && segment.position(e) == odd_position;
          const int64_t local = head - segment.head_begin;
          const bool keys = is_finite(segment.keys, local, e, view.key_dim());
          const bool values = is_finite(segment.values, local, e, view.value_dim());
          require(keys == !(there && odd_keys) && values == !(there && !odd_keys), "head ", head,
                  ", position ", segment.position(e), ": keys are ", keys ? "" : "not ",
                  "finite, values are ", values ? "" : "not ", "finite, where ", odd,
                  " was given to the ", odd_keys ? "keys" : "values", " of head ", odd_head,
                  ", position ", odd_position);
        }
      }
    }
  };
  for (const bool odd_keys : {true, false}) {
    for (const float odd : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity}) {
      StorageArena arena;
      const auto cache = registry.make_cache(parse_component_spec(chosen.spec), shape, arena);
      StepPlan plan;
      append_given(*cache, shape, plan, 2,
                   [&](bool keys, int64_t position, int64_t head, int64_t d) {
                     const bool here =
                         keys == odd_keys && position == odd_position && head == odd_head && d == 1;
                     return here ? static_cast<double>(odd) : static_cast<double>(1 + d);
                   });
      check(cache->view(0, at::zeros({2, shape.query_heads, shape.key_dim}, at::kFloat)), odd,
            odd_keys);
      cache->abort_step();
    }
  }
}

}  // namespace kvlab::conformance

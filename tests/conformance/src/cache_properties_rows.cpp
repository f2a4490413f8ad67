// Properties of fork, truncate and reset.
#include <algorithm>

#include "cache_property_functions.h"
#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"

namespace kvlab::conformance {

void forked_rows_diverge_independently(const Registry& registry, const CacheCase& chosen) {
  for (const int64_t length : edge_lengths(registry, chosen)) {
    if (length > chosen.shape.max_length - 3) continue;
    CacheHarness harness(registry, chosen);
    if (length > 0) harness.step({{0, length}});
    harness.fork(0, 2);
    harness.step({{2, 2}});
    harness.step({{0, 1}});
    harness.step({{0, 1}, {2, 1}});
    harness.reset(0);
    harness.step({{2, 0}, {0, 3}});
  }
}

void forks_of_forks_write_in_one_step(const Registry& registry, const CacheCase& chosen) {
  for (const int64_t length : edge_lengths(registry, chosen)) {
    if (length > chosen.shape.max_length - 2) continue;
    CacheHarness harness(registry, chosen);
    if (length > 0) harness.step({{1, length}});
    harness.fork(1, 0);
    harness.fork(0, 3);
    harness.step({{0, 1}, {3, 1}});
    harness.step({{3, 1}, {1, 1}, {0, 1}});
  }
}

void fork_replaces_what_the_target_held(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  harness.step({{0, 7}, {1, 3}, {3, 11}});
  harness.fork(1, 3);
  harness.fork(3, 3);
  harness.fork(2, 0);  // an empty row
  harness.step({{0, 2}, {1, 2}, {3, 4}});
}

void forked_rows_go_in_any_order(const Registry& registry, const CacheCase& chosen) {
  std::vector<int> order = {0, 1, 2, 3};
  do {
    CacheHarness harness(registry, chosen);
    harness.step({{0, 8}});
    for (const int to : {1, 2, 3}) harness.fork(0, to);
    harness.step({{0, 1}, {2, 2}});
    for (const int row : order) harness.reset(row);
    require_equal(payload_bytes(harness.cache(), chosen.shape), 0, "payload of empty rows");
    harness.step({{3, 4}, {1, 9}});
  } while (std::next_permutation(order.begin(), order.end()));
}

void beam_reorder_with_repeats_keeps_every_beam(const Registry& registry,
                                                const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
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

void truncating_to_any_length_is_as_if_never_fed(const Registry& registry,
                                                 const CacheCase& chosen) {
  for (int64_t length = 0; length <= 13; ++length) {
    CacheHarness harness(registry, chosen);
    harness.step({{0, 13}, {1, 6}});
    harness.truncate(0, length);
    harness.truncate(1, length / 3);  // rows roll back by different amounts
    harness.step({{0, 2}, {1, 1}});
    harness.truncate(0, length + 2);  // nothing to drop
    harness.step({{0, harness.room(0)}});
  }
}

namespace {

// Cuts `row` back to `length`. Refusing is right only where something is gone that the text needs;
// where it works in spite of that, `verify` decides.
void truncate_or_see_refused(CacheHarness& harness, int row, int64_t length) {
  const bool promised = length == 0 || length == harness.length(row) ||
                        harness.holds_enough_for(row, length);
  try {
    harness.truncate(row, length);
  } catch (const UserError& error) {
    require(!promised, "row ", row, " of ", harness.length(row),
            " tokens holds what a text of ", length, " needs, but truncate refuses: ",
            error.what());
    harness.verify();
  }
}

}  // namespace

void truncation_reaches_what_is_still_stored(const Registry& registry, const CacheCase& chosen) {
  const std::vector<int64_t> texts =
      chosen.first_of_options ? std::vector<int64_t>{6, 9, 15} : std::vector<int64_t>{9};
  for (const int64_t chunk : {1, 5}) {
    CacheCase small = chosen;
    small.shape.max_step_tokens = chunk;
    for (const int64_t fed : texts) {
      for (int64_t back = 0; back <= fed; ++back) {
        CacheHarness harness(registry, small);
        while (harness.length(0) < fed) {
          const int64_t count = std::min(chunk, fed - harness.length(0));
          harness.step({{0, count}, {1, harness.length(1) < 4 ? 1 : 0}});
        }
        truncate_or_see_refused(harness, 0, fed - back);
        truncate_or_see_refused(harness, 1, std::max<int64_t>(0, harness.length(1) - back));
        harness.step({{0, 1}, {1, chunk}});  // rows that went back by different amounts
        truncate_or_see_refused(harness, 0, std::max<int64_t>(0, harness.length(0) - 2));
        harness.step({{0, chunk}});
        truncate_or_see_refused(harness, 0, 0);
        harness.step({{0, chunk}});
      }
    }
  }
}

void truncation_past_the_length_is_refused(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  harness.step({{0, 7}, {1, 3}, {3, 11}});
  KVCache& cache = harness.cache();
  require_throws<UserError>([&] { cache.truncate(0, -1); }, "truncate to -1");
  if (!harness.traits().keeps_nothing) {
    require_throws<UserError>([&] { cache.truncate(0, 8); }, "truncate 7 tokens to 8");
    require_throws<UserError>([&] { cache.truncate(2, 1); }, "truncate an empty row to 1");
  }
  harness.verify();
  harness.truncate(0, 7);
  harness.truncate(2, 0);
}

void truncated_forks_do_not_touch_each_other(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
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

void a_reset_row_is_like_new(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  for (int i = 0; i < 3; ++i) {
    harness.step({{0, chosen.shape.max_length - i}, {1, 2}});
    harness.reset(0);
    harness.reset(2);  // already empty
    harness.step({{0, 1}});
    harness.step({{0, 4}, {1, 1}});
    harness.reset(0);
  }
}

}  // namespace kvlab::conformance

// Properties of views, of counted bytes, and of what is kept and what is let go.
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "cache_property_functions.h"
#include "kvlab/conformance/cache_harness.h"
#include "kvlab/conformance/failure.h"
#include "kvlab/conformance/memory_estimate.h"
#include "stored_numbers.h"

namespace kvlab::conformance {

namespace {

void fill(CacheHarness& harness) { harness.step({{0, 7}, {1, 3}, {3, 11}}); }

// Every byte of K and V that a view points at, and of their scales.
std::vector<char> bytes_of(const KVView& view) {
  std::vector<char> bytes;
  for (int64_t slice = 0; slice < view.num_slices(); ++slice) {
    for (const KVSegment& segment : view.segments(slice)) {
      for (const auto& [plane, dim] : {std::pair{segment.keys, view.key_dim()},
                                       std::pair{segment.values, view.value_dim()}}) {
        const auto size = static_cast<int64_t>(c10::elementSize(plane.type));
        for (int64_t head = 0; head < segment.head_end - segment.head_begin; ++head) {
          for (int64_t e = 0; e < segment.count; ++e) {
            const char* from = static_cast<const char*>(plane.data) +
                               (head * plane.head_stride + e * plane.token_stride) * size;
            bytes.insert(bytes.end(), from, from + dim * size);
            if (!holds_codes(plane)) continue;
            const float scale = scale_at(plane, head, e);
            const char* scale_bytes = reinterpret_cast<const char*>(&scale);
            bytes.insert(bytes.end(), scale_bytes, scale_bytes + sizeof(scale));
          }
        }
      }
    }
  }
  return bytes;
}

bool same_plane(const KVPlane& one, const KVPlane& other) {
  return one.data == other.data && one.token_stride == other.token_stride &&
         one.head_stride == other.head_stride && one.type == other.type &&
         one.scales == other.scales && one.scale_token_stride == other.scale_token_stride &&
         one.scale_head_stride == other.scale_head_stride;
}

bool same_segment(const KVSegment& one, const KVSegment& other) {
  bool same = same_plane(one.keys, other.keys) && same_plane(one.values, other.values) &&
              one.count == other.count && one.rotary_shift == other.rotary_shift &&
              one.head_begin == other.head_begin && one.head_end == other.head_end;
  for (int64_t e = 0; same && e < one.count; ++e) same = one.position(e) == other.position(e);
  return same;
}

void require_same_segments(const KVView& one, const KVView& other) {
  require(one.num_kv_heads() == other.num_kv_heads() && one.key_dim() == other.key_dim() &&
              one.value_dim() == other.value_dim() && one.uniform() == other.uniform(),
          "the second view has other heads or dimensions");
  require(one.window == other.window && one.sinks == other.sinks && one.rotated == other.rotated,
          "the second view has another window, other sinks or keys rotated otherwise");
  require_equal(one.num_slices(), other.num_slices(), "slices of the second view");
  for (int64_t slice = 0; slice < one.num_slices(); ++slice) {
    const auto first = one.segments(slice), second = other.segments(slice);
    require_equal(first.size(), second.size(), "segments of slice ", slice);
    for (size_t i = 0; i < first.size(); ++i) {
      require(same_segment(first[i], second[i]), "segment ", i, " of slice ", slice,
              " is another one in the second view");
    }
  }
}

// What can be asked without changing anything.
void ask_everything(const CacheHarness& harness, const KVCache& cache) {
  for (int row = 0; row < harness.rows(); ++row) {
    cache.length(row);
    cache.rotary_base(row);
  }
  cache.traits();
  cache.bytes_moved();
  cache.fragmentation();
}

// Bytes of the entries that inspect gives for a row, from heads and counts alone.
int64_t held_bytes(const KVCache& cache, const CacheShape& shape, int row) {
  KVView view;
  int64_t bytes = 0;
  for (int layer = 0; layer < shape.layers; ++layer) {
    cache.inspect(layer, row, view);
    for (const KVSegment& segment : view.segments(0)) {
      const auto key = static_cast<int64_t>(c10::elementSize(segment.keys.type));
      const auto value = static_cast<int64_t>(c10::elementSize(segment.values.type));
      bytes += segment.count * (segment.head_end - segment.head_begin) *
               (view.key_dim() * key + view.value_dim() * value);
    }
  }
  return bytes;
}

// Where the key of every stored entry lies: by row, layer, head and position.
struct EntryPlace {
  const void* key = nullptr;
  int64_t bytes = 0;  // of K and V
  bool operator==(const EntryPlace&) const = default;
};
using EntryPlaces = std::map<std::tuple<int, int, int64_t, int64_t>, EntryPlace>;

EntryPlaces places_of(const KVCache& cache, const CacheShape& shape) {
  EntryPlaces places;
  KVView view;
  for (int row = 0; row < shape.rows; ++row) {
    for (int layer = 0; layer < shape.layers; ++layer) {
      cache.inspect(layer, row, view);
      for (const KVSegment& segment : view.segments(0)) {
        const auto key = static_cast<int64_t>(c10::elementSize(segment.keys.type));
        const auto value = static_cast<int64_t>(c10::elementSize(segment.values.type));
        for (int64_t head = segment.head_begin; head < segment.head_end; ++head) {
          for (int64_t e = 0; e < segment.count; ++e) {
            const int64_t offset = (head - segment.head_begin) * segment.keys.head_stride +
                                   e * segment.keys.token_stride;
            places[{row, layer, head, segment.position(e)}] = {
                static_cast<const char*>(segment.keys.data) + offset * key,
                view.key_dim() * key + view.value_dim() * value};
          }
        }
      }
    }
  }
  return places;
}

// Bytes of entries below `lengths` that lie where nothing lay before.
int64_t bytes_at_new_places(const EntryPlaces& before, const EntryPlaces& after,
                            const std::vector<int64_t>& lengths) {
  std::set<const void*> known;
  for (const auto& [entry, place] : before) known.insert(place.key);
  int64_t bytes = 0;
  for (const auto& [entry, place] : after) {
    const auto& [row, layer, head, position] = entry;
    const bool fed_before = position < lengths[static_cast<size_t>(row)];
    if (fed_before && known.insert(place.key).second) bytes += place.bytes;
  }
  return bytes;
}

// Bytes of entries below `lengths` that lie elsewhere than before, or were not there.
int64_t bytes_elsewhere(const EntryPlaces& before, const EntryPlaces& after,
                        const std::vector<int64_t>& lengths) {
  int64_t bytes = 0;
  for (const auto& [entry, place] : after) {
    const auto& [row, layer, head, position] = entry;
    const auto known = before.find(entry);
    const bool stayed = known != before.end() && known->second.key == place.key;
    if (!stayed && position < lengths[static_cast<size_t>(row)]) bytes += place.bytes;
  }
  return bytes;
}

// {row, tokens} as with `feed`, in steps as long as the shape allows.
void feed_in_parts(KVCache& cache, const CacheShape& shape,
                   const std::vector<std::pair<int, int64_t>>& rows) {
  std::vector<std::pair<int, int64_t>> left = rows;
  while (std::any_of(left.begin(), left.end(), [](const auto& row) { return row.second > 0; })) {
    std::vector<std::pair<int, int64_t>> part = left;
    for (size_t i = 0; i < left.size(); ++i) {
      if (!cache.traits().keeps_nothing) {
        part[i].second = std::min(part[i].second, shape.max_step_tokens);
      }
      left[i].second -= part[i].second;
    }
    feed(cache, shape, part);
  }
}

}  // namespace

void two_views_of_a_layer_are_the_same(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen, 3);
  fill(harness);
  harness.begin({{0, 2}, {1, 1}});
  harness.append(0);
  const at::Tensor query = at::zeros(
      {harness.plan().num_tokens(), chosen.shape.query_heads, chosen.shape.key_dim}, at::kFloat);
  const KVView kept = harness.cache().view(0, query);
  require_same_segments(kept, harness.cache().view(0, query));
  harness.abort();
}

void a_view_lasts_until_the_next_change(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen, 4);
  fill(harness);
  harness.begin({{0, 2}, {3, 1}});
  harness.append(0);
  const at::Tensor query = at::zeros(
      {harness.plan().num_tokens(), chosen.shape.query_heads, chosen.shape.key_dim}, at::kFloat);
  const KVView& view = harness.cache().view(0, query);
  const KVView kept = view;
  const std::vector<char> bytes = bytes_of(view);
  ask_everything(harness, harness.cache());
  require_same_segments(kept, view);
  require(bytes_of(view) == bytes, "the bytes behind the view have changed");
  // Written by the other layer, read again: live, with the entries of this step.
  harness.append(1);
  const KVView& again = harness.cache().view(0, query);
  require(bytes_of(again) == bytes, "layer 0 holds other bytes after layer 1 was appended");
  harness.attend(1);
  harness.finish();
  harness.verify();
}

void lookups_change_nothing(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  fill(harness);
  const KVCache& cache = harness.cache();
  const auto contents = [&] {
    std::vector<char> bytes;
    KVView view;
    for (int row = 0; row < harness.rows(); ++row) {
      for (int layer = 0; layer < chosen.shape.layers; ++layer) {
        cache.inspect(layer, row, view);
        const std::vector<char> part = bytes_of(view);
        bytes.insert(bytes.end(), part.begin(), part.end());
      }
    }
    return bytes;
  };
  const std::vector<char> before = contents();
  const MemoryUsage usage = harness.arena().usage();
  const int64_t allocations = harness.arena().allocations();
  for (int i = 0; i < 3; ++i) {
    ask_everything(harness, cache);
    cache.check_integrity();
    payload_bytes(cache, chosen.shape);
    require(contents() == before, "inspecting changed the contents");
  }
  require(harness.arena().usage() == usage, "looking changed the bytes in use");
  require_equal(harness.arena().allocations(), allocations, "allocations after looking");
  harness.verify();
  harness.step({{0, 1}, {2, 2}});
}

void payload_counts_every_live_entry_once(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  const KVCache& cache = harness.cache();
  const auto payload = [&] { return payload_bytes(cache, chosen.shape); };
  const auto held = [&](int row) { return held_bytes(cache, chosen.shape, row); };
  const auto storage = [&] { return harness.arena().usage().live_bytes(MemoryKind::storage); };
  require_equal(payload(), 0, "payload of an empty cache");
  fill(harness);
  const int64_t filled = held(0) + held(1) + held(3);
  require_equal(payload(), filled, "payload of three rows");
  require(payload() <= storage(), "payload ", payload(), " exceeds storage ", storage());
  if (harness.traits().forks) {
    const int64_t shared = held(3);
    harness.fork(3, 2);
    // Shared or copied: both are allowed, and only what exists is counted.
    require(payload() == filled || payload() == filled + shared, "payload after a fork is ",
            payload(), ", before it ", filled, ", of the row ", shared);
    require(payload() <= storage(), "payload ", payload(), " exceeds storage ", storage());
    harness.reset(3);
    require_equal(payload(), filled, "payload after the source was reset");
  }
  for (int row = 0; row < 4; ++row) harness.reset(row);
  require_equal(payload(), 0, "payload of reset rows");
}

void fragmentation_is_the_share_of_empty_bytes(const Registry& registry,
                                               const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  const auto check = [&](const char* when) {
    const auto storage =
        static_cast<double>(harness.arena().usage().live_bytes(MemoryKind::storage));
    const auto live = static_cast<double>(payload_bytes(harness.cache(), chosen.shape));
    const double wanted = storage == 0 ? 0 : 1 - live / storage;
    require(std::abs(harness.cache().fragmentation() - wanted) < 1e-12, "fragmentation ", when,
            " is ", harness.cache().fragmentation(), ", of storage ", wanted, " is empty");
  };
  check("of an empty cache");
  fill(harness);
  check("of three rows");
  if (harness.traits().forks) {
    harness.fork(3, 2);
    check("after a fork");
  }
  if (harness.traits().truncation == Truncation::exact) {
    harness.truncate(3, 4);
    check("after a truncation");
  }
  harness.reset(3);
  check("after a reset");
}

void moved_bytes_are_counted(const Registry& registry, const CacheCase& chosen) {
  CacheHarness harness(registry, chosen);
  const KVCache& cache = harness.cache();
  const auto places = [&] { return places_of(cache, chosen.shape); };
  const auto lengths = [&] {
    std::vector<int64_t> all;
    for (int row = 0; row < harness.rows(); ++row) all.push_back(harness.length(row));
    return all;
  };
  fill(harness);
  require(places() == places(),
          "inspect gives an entry another place each time, though the cache stores what it is given");
  // More than what moved counts only what is copied along with it: the unused rest of a row.
  const auto share_of_a_row = [&] {
    return harness.arena().usage().live_bytes(MemoryKind::storage) / harness.rows();
  };
  const auto check = [&](const char* what, bool copies_a_rest,
                         const std::vector<int64_t>& fed_before, auto action) {
    const EntryPlaces before = places();
    const int64_t counted_before = cache.bytes_moved();
    action();
    const int64_t moved = bytes_at_new_places(before, places(), fed_before);
    const int64_t counted = cache.bytes_moved() - counted_before;
    require(counted >= moved, what, " moved ", moved, " bytes of entries, bytes_moved counts ",
            counted);
    const int64_t most = 2 * bytes_elsewhere(before, places(), fed_before) +
                         (copies_a_rest ? share_of_a_row() : 0);
    require(counted <= most, what, " moved ", moved, " bytes of entries, bytes_moved counts ",
            counted, " where at most ", most, " can be right");
  };
  for (int i = 0; i < 4; ++i) {
    check("a step", false, lengths(), [&] { harness.step({{0, 3}, {1, 1}, {3, 2}}); });
  }
  if (!harness.traits().forks) return;
  std::vector<int64_t> forked = lengths();
  forked[2] = forked[3];
  check("a fork", true, forked, [&] { harness.fork(3, 2); });
  check("a step of forked rows", true, lengths(), [&] { harness.step({{3, 1}, {2, 2}}); });
}

void the_estimate_equals_the_arena(const Registry& registry, const CacheCase& chosen) {
  constexpr uint64_t kSeed = 413;
  check_memory_estimate(registry, chosen, kSeed, chosen.first_of_options ? 100 : 10);
}

void all_memory_comes_back(const Registry& registry, const CacheCase& chosen) {
  StorageArena arena(ArenaOptions{.poison = true});
  const CacheShape& shape = chosen.shape;
  for (const bool used : {false, true}) {
    {
      const auto cache =
          registry.make_cache(parse_component_spec(chosen.spec), shape, arena);
      if (used) feed_in_parts(*cache, shape, {{0, 9}, {2, 3}});
    }
    require_equal(arena.usage().live_total(), 0, "bytes of a destroyed cache");
  }
}

void a_constructor_without_memory_holds_none(const Registry& registry, const CacheCase& chosen) {
  for (int64_t k = 1;; ++k) {
    StorageArena arena;
    arena.fail_allocation(k);
    try {
      registry.make_cache(parse_component_spec(chosen.spec), chosen.shape, arena);
      break;
    } catch (const CapacityError&) {
      require_equal(arena.usage().live_total(), 0, "bytes after failing allocation ", k);
    }
    require(k < 1000, "the constructor makes more than ", k, " allocations");
  }
}

void storage_does_not_grow_with_the_text(const Registry& registry, const CacheCase& chosen) {
  const auto after = [&](int64_t length, int64_t longest) {
    CacheCase made = chosen;
    made.shape.max_length = longest;
    made.shape.max_step_tokens = 5;
    StorageArena arena;
    const auto cache =
        registry.make_cache(parse_component_spec(made.spec), made.shape, arena);
    const bool nothing = cache->traits().keeps_nothing;
    for (int64_t fed = 0; fed < length && !nothing; fed += 5) {
      feed(*cache, made.shape, {{0, 5}, {2, 1}});
    }
    if (nothing) feed(*cache, made.shape, {{0, length}});
    require(payload_bytes(*cache, made.shape) <=
                arena.usage().live_bytes(MemoryKind::storage),
            "the payload exceeds the storage");
    return arena.usage();
  };
  const CacheTraits traits = traits_of(registry, chosen);
  const int64_t size = (traits.window + traits.sinks + 9) / 5 * 5;
  const MemoryUsage once = after(2 * size, 20 * size);
  const MemoryUsage often = after(20 * size, 20 * size);
  const MemoryUsage roomier = after(20 * size, 200 * size);
  const auto storage = [](const MemoryUsage& usage) {
    return usage.live_bytes(MemoryKind::storage);
  };
  require_equal(storage(often), storage(once), "storage after a text of ", 20 * size,
                " tokens, against one of ", 2 * size);
  require_equal(often.peak_bytes(MemoryKind::storage), once.peak_bytes(MemoryKind::storage),
                "peak storage after a text of ", 20 * size, " tokens");
  require_equal(storage(roomier), storage(often), "storage where texts may be ten times longer");
}

void memory_is_flat_over_many_steps(const Registry& registry, const CacheCase& chosen) {
  const CacheShape& shape = chosen.shape;
  StorageArena arena;
  const auto cache = registry.make_cache(parse_component_spec(chosen.spec), shape, arena);
  const CacheTraits traits = cache->traits();
  const auto cycle = [&] {  // 10 steps
    feed_in_parts(*cache, shape, {{0, 9}, {1, 4}, {3, 1}});
    for (int i = 0; i < 9; ++i) feed(*cache, shape, {{0, 1}, {1, 1}});
    if (traits.forks) {
      cache->fork(0, 2);
      feed(*cache, shape, {{2, 1}});
    }
    if (traits.truncation == Truncation::exact) {
      cache->truncate(1, traits.keeps_nothing ? 0 : 5);
      feed(*cache, shape, {{1, 2}});
    }
    for (const int row : {1, 0, 3, 2}) cache->reset(row);
  };
  for (int i = 0; i < 3; ++i) cycle();  // free lists and caches of the library fill up
  const MemoryUsage before = arena.usage();
  const std::optional<int64_t> allocated = allocator_bytes();
  const int cycles = chosen.first_of_options ? 300 : 20;
  for (int i = 0; i < cycles; ++i) cycle();
  require(arena.usage() == before, "the arena counts ", arena.usage().live_total(),
          " bytes after ", cycles, " cycles of 10 steps, ", before.live_total(), " before");
  if (!allocated) return;
  // The library may keep a little; a leak of 3 bytes a step is more.
  constexpr int64_t kSlack = 8 * 1024;
  const int64_t grown = *allocator_bytes() - *allocated;
  require(grown <= kSlack, cycles, " cycles of 10 steps took ", grown,
          " bytes from the allocator that did not come back");
}

void a_steps_tensors_are_let_go(const Registry& registry, const CacheCase& chosen) {
  const CacheShape& s = chosen.shape;
  // The engine switches gradients off for the process; a caller may not have.
  const c10::AutoGradMode gradients(true);
  StorageArena arena;
  const auto cache = registry.make_cache(parse_component_spec(chosen.spec), s, arena);
  for (const bool aborted : {false, true, false}) {
    StepPlan plan;
    RowSlice slice;
    slice.row = 1;
    slice.first_position = cache->length(1);
    slice.count = 3;
    plan.add(slice, std::vector<int32_t>(3, 1));
    std::vector<at::Tensor> alive;
    cache->begin_step(plan);
    for (int layer = 0; layer < s.layers; ++layer) {
      for (const int64_t dim : {s.key_dim, s.value_dim}) {
        alive.push_back(at::zeros({3, s.kv_heads, dim}, s.dtype));
        alive.back().requires_grad_(true);
      }
      cache->append(layer, alive[alive.size() - 2], alive.back());
    }
    aborted ? cache->abort_step() : cache->end_step();
    for (const at::Tensor& tensor : alive) {
      require(tensor.use_count() == 1 && tensor.storage().use_count() == 1,
              "a tensor of the step is still held after ", aborted ? "abort_step" : "end_step",
              ": ", tensor.use_count(), " handles, ", tensor.storage().use_count(), " of storage");
    }
  }
}

}  // namespace kvlab::conformance

#include "contiguous_cache.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>

#include "kvlab/core/error.h"

namespace kvlab::mutants {

CacheTraits contiguous_traits(Bug bug) {
  CacheTraits traits;
  traits.truncation = Truncation::exact;
  traits.forks = bug != Bug::fork_not_promised_but_silent;
  traits.bounded = bug == Bug::claims_to_be_bounded;
  return traits;
}

ContiguousCache::ContiguousCache(Bug bug, const CacheShape& shape, int64_t first_capacity,
                                 StorageArena& arena)
    : PlantedCache(bug, "contiguous", contiguous_traits(bug), shape),
      arena_(arena),
      buffers_(static_cast<size_t>(shape.rows * shape.layers)),
      cursors_(static_cast<size_t>(shape.rows), 0) {
  if (first_capacity == 0) first_capacity = shape.max_length;
  static std::vector<Buffer> under_construction;
  for (Buffer& made : buffers_) {
    made = allocate(std::min(first_capacity, shape.max_length));
    if (bug_ == Bug::constructor_keeps_what_it_had) under_construction.push_back(made);
  }
  under_construction.clear();
}

at::Tensor ContiguousCache::allocate_plane(int64_t capacity, int64_t dim) {
  const std::vector<int64_t> sizes = {shape().kv_heads, capacity, dim};
  at::ScalarType type = shape().dtype;
  if (bug_ == Bug::storage_ignores_the_dtype) type = at::kFloat;
  if (bug_ == Bug::bytes_outside_the_arena) return at::empty(sizes, type);
  return arena_.allocate(sizes, type, MemoryKind::storage);
}

ContiguousCache::Buffer ContiguousCache::allocate(int64_t capacity) {
  Buffer made;
  made.keys = allocate_plane(capacity, shape().key_dim);
  made.values = allocate_plane(capacity, shape().value_dim);
  if (bug_ == Bug::bytes_never_returned) {
    static std::vector<at::Tensor> kept;
    kept = {made.values};
  }
  return made;
}

Run ContiguousCache::run(const Buffer& held) const {
  Run made = Run::over(static_cast<char*>(held.keys.mutable_data_ptr()),
                       static_cast<char*>(held.values.mutable_data_ptr()), held.keys.size(1),
                       shape());
  made.type = held.keys.scalar_type();
  return made;
}

// Byte offset of an entry in a plane of `run`.
size_t ContiguousCache::address(const Run& run, int64_t head, int64_t slot, int64_t dim) const {
  const auto offset = static_cast<size_t>(run.offset(head, slot, dim));
  if (bug_ == Bug::address_of_32_bits) return static_cast<uint32_t>(offset);
  return offset;
}

void ContiguousCache::move_entries(const Buffer& from, const Buffer& to, int64_t count) {
  if (bug_ == Bug::growth_copies_flat) {
    std::memcpy(to.keys.mutable_data_ptr(), from.keys.const_data_ptr(), from.keys.nbytes());
    std::memcpy(to.values.mutable_data_ptr(), from.values.const_data_ptr(), from.values.nbytes());
    return;
  }
  const int64_t bytes = copy_entries(run(from), run(to), count);
  if (bug_ != Bug::moved_bytes_not_counted) count_moved(bytes);
}

// All larger buffers are there before the first entry moves, so that a failure leaves no trace.
void ContiguousCache::reserve(const StepPlan& plan) {
  if (bug_ == Bug::plan_read_after_the_step && ended_ == &plan) {
    for (const RowSlice& slice : plan.slices()) cursor(slice.row) = slice.end_position();
  }
  if (bug_ == Bug::log_of_every_step) {
    log_.push_back(arena_.allocate({1}, at::kLong, MemoryKind::metadata));
  }
  struct Growth {
    Buffer* buffer;
    Buffer larger;
    int64_t live;
  };
  std::vector<Growth> grown;
  for (const RowSlice& slice : plan.slices()) {
    int64_t wanted = capacity(slice.row);
    while (wanted < slice.end_position()) wanted *= 2;
    wanted = std::min(wanted, shape().max_length);
    if (wanted == capacity(slice.row)) continue;
    for (int64_t layer = 0; layer < shape().layers; ++layer) {
      Buffer& held = buffer(layer, slice.row);
      grown.push_back({&held, allocate(wanted), slice.first_position});
      if (bug_ == Bug::growth_replaces_before_it_copies) std::swap(held, grown.back().larger);
    }
  }
  for (Growth& growth : grown) {
    if (bug_ == Bug::growth_replaces_before_it_copies) {
      std::swap(*growth.buffer, growth.larger);
    }
    move_entries(*growth.buffer, growth.larger, growth.live);
    *growth.buffer = std::move(growth.larger);
  }
}

void ContiguousCache::store_plane(const at::Tensor& incoming, const RowSlice& slice, char* to,
                                  int64_t dim, const Run& target) {
  const auto size = static_cast<int64_t>(c10::elementSize(target.type));
  const char* data = static_cast<const char*>(incoming.const_data_ptr());
  int64_t token_stride = incoming.stride(0), head_stride = incoming.stride(1);
  if (bug_ == Bug::strides_ignored) {
    token_stride = target.kv_heads * dim;
    head_stride = dim;
  }
  const int64_t first = bug_ == Bug::packed_offset_ignored ? 0 : slice.offset;
  const int64_t slot = cursor(slice.row);
  for (int64_t head = 0; head < target.kv_heads; ++head) {
    int64_t source_head = head;
    if (bug_ == Bug::heads_tiled && target.kv_heads % 2 == 0) {
      source_head = head % 2 * (target.kv_heads / 2) + head / 2;
    }
    // Nothing is written past the end, so that no bug can harm the process.
    const int64_t count = std::min(slice.count, target.capacity - slot);
    for (int64_t token = 0; token < count; ++token) {
      const int64_t from = (first + token) * token_stride + source_head * head_stride;
      std::memcpy(to + address(target, head, slot + token, dim), data + from * size,
                  static_cast<size_t>(dim * size));
    }
  }
}

void ContiguousCache::store(int layer, const RowSlice& slice, const IncomingKV& incoming) {
  if (bug_ == Bug::storage_ignores_the_dtype && incoming.keys.scalar_type() != at::kFloat) {
    return store(layer, slice, {incoming.keys.to(at::kFloat), incoming.values.to(at::kFloat)});
  }
  int row = slice.row;
  if (bug_ == Bug::every_row_written_to_row_0) row = 0;
  if (bug_ == Bug::every_layer_written_to_layer_0) layer = 0;
  Buffer& target = buffer(layer, row);
  if (bug_ == Bug::records_gradients) {
    for (const auto& [from, to] : {std::pair{incoming.keys, target.keys},
                                   std::pair{incoming.values, target.values}}) {
      to.narrow(1, cursor(row), slice.count)
          .copy_(from.narrow(0, slice.offset, slice.count).transpose(0, 1));
    }
    return;
  }
  const Run held = run(target);
  if (bug_ == Bug::keys_and_values_swapped && held.key_dim == held.value_dim) {
    store_plane(incoming.values, slice, held.keys, held.key_dim, held);
    store_plane(incoming.keys, slice, held.values, held.value_dim, held);
    return;
  }
  store_plane(incoming.keys, slice, held.keys, held.key_dim, held);
  store_plane(incoming.values, slice, held.values, held.value_dim, held);
}

void ContiguousCache::list(int layer, int row, int64_t end, KVView& view) const {
  const Buffer& held = buffer(layer, row);
  KVLAB_INVARIANT(end <= held.keys.size(1), "[cache.contiguous] ", end, " entries of ",
                  held.keys.size(1));
  int64_t first = 0;
  if (bug_ == Bug::one_slot_too_many) end = std::min(end + 1, held.keys.size(1));
  if (bug_ == Bug::newest_missing) end = std::max<int64_t>(end - 1, 0);
  if (bug_ == Bug::oldest_dropped_when_long && end > 16) first = 1;
  KVSegment segment = run(held).segment(first, end - first, first);
  if (bug_ == Bug::values_read_from_keys) segment.values = segment.keys;
  if (bug_ == Bug::positions_from_one) ++segment.first_position;
  view.add(segment);
}

void ContiguousCache::commit(const RowSlice& slice) noexcept {
  cursor(slice.row) = slice.end_position();
  if (bug_ == Bug::plan_read_after_the_step) ended_ = plan();
}

void ContiguousCache::drop(int row, int64_t from) noexcept {
  if (bug_ == Bug::reset_keeps_the_cursor && from == 0) return;
  cursor(row) = from;
}

void ContiguousCache::copy_row(int from, int to) {
  const int64_t entries = length(from);
  const int64_t wanted = std::max(capacity(from), capacity(to));
  std::vector<Buffer> copies;
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    if (bug_ == Bug::fork_aliases_storage) {
      copies.push_back(buffer(layer, from));
      continue;
    }
    copies.push_back(wanted > capacity(to) ? allocate(wanted) : buffer(layer, to));
    if (bug_ == Bug::fork_copies_keys_only) {
      Run keys = run(buffer(layer, from));
      keys.value_dim = 0;
      copy_entries(keys, run(copies.back()), entries);
      continue;
    }
    move_entries(buffer(layer, from), copies.back(), entries);
  }
  for (int64_t layer = 0; layer < shape().layers; ++layer) {
    buffer(layer, to) = std::move(copies[static_cast<size_t>(layer)]);
  }
  cursor(to) = entries;
}

void ContiguousCache::inspect(int layer, int row, KVView& view) const {
  PlantedCache::inspect(layer, row, view);
  if (bug_ == Bug::inspect_moves_the_cursor && cursor(row) > 0) cursor(row) = length(row) - 1;
}

double ContiguousCache::fragmentation() const {
  int64_t allocated = 0, used = 0;
  for (int row = 0; row < shape().rows; ++row) {
    allocated += capacity(row);
    used += length(row);
    if (bug_ == Bug::fragmentation_of_the_first_row) break;
  }
  return 1 - static_cast<double>(used) / static_cast<double>(allocated);
}

MemoryUsage contiguous_estimate(const CacheShape& shape, int64_t first_capacity,
                                const StepSequence& sequence) {
  if (first_capacity == 0) first_capacity = shape.max_length;
  const int64_t bytes = shape.token_bytes_per_layer() * shape.layers;
  std::vector<int64_t> sizes(static_cast<size_t>(shape.rows),
                             std::min(first_capacity, shape.max_length));
  MemoryUsage usage;
  for (const int64_t size : sizes) usage.add(MemoryKind::storage, size * bytes);
  for (const auto& step : sequence.steps) {
    int64_t freed = 0;
    for (const StepSequence::Item& item : step) {
      int64_t& size = sizes[static_cast<size_t>(item.row)];
      int64_t grown = size;
      while (grown < item.end) grown *= 2;
      grown = std::min(grown, shape.max_length);
      if (grown == size) continue;
      usage.add(MemoryKind::storage, grown * bytes);
      freed += size * bytes;
      size = grown;
    }
    usage.add(MemoryKind::storage, -freed);
  }
  return usage;
}

}  // namespace kvlab::mutants

#include "ring_cache.h"

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab::mutants {

CacheTraits ring_traits(Bug bug, const RingOptions& options, const CacheShape& shape) {
  CacheTraits traits;
  traits.exact = shape.window > 0 && shape.window <= options.window;
  if (bug == Bug::claims_to_be_exact) traits.exact = true;
  traits.truncation = Truncation::resident;
  traits.forks = true;
  traits.bounded = true;
  traits.window = options.window;
  traits.sinks = options.sinks;
  if (bug == Bug::claims_to_be_exact) traits.window = traits.sinks = 0;
  traits.keys_before_position = options.rebased;
  return traits;
}

// As much as the first token of the longest step sees, and that step.
int64_t ring_slots(const RingOptions& options, const CacheShape& shape) {
  return options.window - 1 + shape.max_step_tokens;
}

RingCache::RingCache(Bug bug, const RingOptions& options, const CacheShape& shape,
                     StorageArena& arena)
    : PlantedCache(bug, "ring", ring_traits(bug, options, shape), shape),
      options_(options),
      arena_(arena),
      step_(static_cast<size_t>(shape.layers)),
      oldest_(static_cast<size_t>(shape.rows), options.sinks) {
  for (int64_t i = 0; i < shape.rows * shape.layers; ++i) {
    buffers_.push_back({arena.allocate({shape.kv_heads, slots(), shape.key_dim}, shape.dtype,
                                       MemoryKind::storage),
                        arena.allocate({shape.kv_heads, slots(), shape.value_dim}, shape.dtype,
                                       MemoryKind::storage)});
  }
}

int64_t RingCache::slot_of(int64_t position) const {
  if (bug_ == Bug::sinks_overwritten) return position % slots();
  if (position < options_.sinks) return position;
  return options_.sinks + (position - options_.sinks) % ring_slots(options_, shape());
}

int64_t RingCache::rotary_shift(int row) const {
  if (!options_.rebased) return 0;
  int64_t first_behind_sinks = options_.sinks;
  if (bug_ == Bug::rotary_gap_behind_the_sinks && oldest(row) > options_.sinks) {
    ++first_behind_sinks;
  }
  return first_behind_sinks - oldest(row);
}

int64_t RingCache::rotary_base(int row) const {
  if (bug_ == Bug::rotary_base_is_the_length) return length(row);
  return length(row) + rotary_shift(row);
}

Run RingCache::run(int layer, int row) const {
  const Buffer& held = buffers_.at(static_cast<size_t>(row * shape().layers + layer));
  return Run::over(static_cast<char*>(held.keys.mutable_data_ptr()),
                   static_cast<char*>(held.values.mutable_data_ptr()), slots(), shape());
}

void RingCache::store(int layer, const RowSlice&, const IncomingKV& incoming) {
  Step& step = step_.at(static_cast<size_t>(layer));
  if (step.keys.is_same(incoming.keys) && step.values.is_same(incoming.values)) return;
  step = Step{};
  step.hold = arena_.hold(static_cast<int64_t>(incoming.keys.nbytes() + incoming.values.nbytes()),
                          MemoryKind::scratch);
  step.keys = incoming.keys;
  step.values = incoming.values;
}

void RingCache::list(int layer, int row, int64_t end, KVView& view) const {
  const int64_t committed = std::min(length(row), end);
  const int64_t sinks = std::min(options_.sinks, committed);
  const Run held = run(layer, row);
  view.window = traits().window;
  view.sinks = traits().sinks;
  if (bug_ == Bug::view_window_one_too_wide) ++view.window;
  if (bug_ == Bug::view_window_one_too_narrow) --view.window;
  if (bug_ == Bug::view_window_undeclared) view.window = 0;
  if (bug_ == Bug::sinks_undeclared) view.sinks = 0;
  view.rotated = !options_.rebased || bug_ == Bug::unrotated_keys_undeclared;
  view.add(held.segment(0, sinks, 0));
  int64_t first = oldest(row);
  if (bug_ == Bug::evicts_before_attention) first = std::max(first, end - options_.window);
  if (bug_ == Bug::full_ring_looks_empty && committed == slots()) first = committed;
  while (first < committed) {
    const int64_t slot = slot_of(first);
    const int64_t count = std::min(committed - first, slots() - slot);
    KVSegment segment = held.segment(slot, count, first);
    if (bug_ == Bug::positions_from_slots) segment.first_position = slot;
    segment.rotary_shift = rotary_shift(row);
    view.add(segment);
    first += count;
  }
  if (plan() == nullptr || end == committed) return;
  for (const RowSlice& slice : plan()->slices()) {
    if (slice.row == row) list_own(layer, slice, view);
  }
}

// The step's own tokens, where they lie.
void RingCache::list_own(int layer, const RowSlice& slice, KVView& view) const {
  const Step& step = step_.at(static_cast<size_t>(layer));
  const auto plane = [&](const at::Tensor& packed) {
    return KVPlane{static_cast<const char*>(packed.const_data_ptr()) +
                       slice.offset * packed.stride(0) * shape().element_bytes(),
                   packed.stride(0), packed.stride(1), packed.scalar_type()};
  };
  KVSegment segment;
  segment.keys = plane(step.keys);
  segment.values = plane(step.values);
  segment.count = slice.count;
  segment.first_position = slice.first_position;
  segment.rotary_shift = rotary_shift(slice.row);
  segment.head_end = static_cast<int>(shape().kv_heads);
  view.add(segment);
}

void RingCache::commit(const RowSlice& slice) noexcept {
  const int64_t end = slice.end_position();
  const int64_t most = bug_ == Bug::window_evicts_one_too_many ? options_.window - 2
                                                               : ring_slots(options_, shape());
  const int64_t kept = std::max({oldest(slice.row), end - most, options_.sinks});
  for (int layer = 0; layer < shape().layers; ++layer) {
    const Step& step = step_.at(static_cast<size_t>(layer));
    if (!step.keys.defined()) continue;
    const int64_t stored = bug_ == Bug::long_chunk_keeps_its_head
                               ? std::min(end, slice.first_position + options_.window)
                               : end;
    int64_t position = slice.first_position;
    while (position < stored) {
      // What the ring would overwrite within this step is left out.
      if (position >= options_.sinks) position = std::max(position, std::min(kept, stored));
      const int64_t slot = slot_of(position);
      const int64_t until = position < options_.sinks ? options_.sinks : slots();
      const int64_t count = std::min(stored - position, until - slot);
      if (count == 0) break;
      store_entries({step.keys, step.values}, slice.offset + position - slice.first_position, count,
                    run(layer, slice.row), slot);
      position += count;
      if (bug_ == Bug::wrap_lost_inside_a_chunk && slot + count == slots()) break;
    }
  }
  oldest(slice.row) = kept;
}

void RingCache::drop(int row, int64_t from) noexcept {
  if (bug_ == Bug::reset_forgets_where_the_ring_starts) return;
  oldest(row) = std::min(oldest(row), std::max(options_.sinks, from));
}

bool RingCache::resident(int row, int64_t new_length) const {
  if (bug_ == Bug::truncate_past_what_is_resident) return true;
  if (bug_ == Bug::truncate_refused_when_resident) return new_length == length(row);
  if (new_length <= options_.sinks) return true;
  int64_t window = options_.window;
  if (shape().window > 0) window = std::min(window, shape().window);
  return std::max(options_.sinks, new_length - window + 1) >= oldest(row);
}

void RingCache::copy_row(int from, int to) {
  for (int layer = 0; layer < shape().layers; ++layer) {
    count_moved(copy_entries(run(layer, from), run(layer, to), slots()));
  }
  if (bug_ != Bug::fork_forgets_where_the_ring_starts) oldest(to) = oldest(from);
}

void RingCache::release_step() noexcept {
  if (bug_ == Bug::steps_tensors_kept) return;
  for (Step& step : step_) step = Step{};
}

double RingCache::fragmentation() const {
  int64_t held = 0;
  for (int row = 0; row < shape().rows; ++row) {
    held += std::min(options_.sinks, length(row));
    held += std::max<int64_t>(0, length(row) - oldest(row));
  }
  return 1 - static_cast<double>(held) / static_cast<double>(shape().rows * slots());
}

MemoryUsage ring_estimate(const RingOptions& options, const CacheShape& shape,
                          const StepSequence& sequence) {
  const int64_t bytes = shape.layers * shape.token_bytes_per_layer();
  MemoryUsage usage;
  usage.add(MemoryKind::storage, shape.rows * (options.sinks + options.window + shape.max_step_tokens - 1) * bytes);
  std::vector<int64_t> lengths(static_cast<size_t>(shape.rows), 0);
  for (const auto& step : sequence.steps) {
    int64_t fed = 0;
    for (const StepSequence::Item& item : step) {
      int64_t& length = lengths[static_cast<size_t>(item.row)];
      fed += item.end - length;
      length = item.end;
    }
    usage.add(MemoryKind::scratch, fed * bytes);
    usage.add(MemoryKind::scratch, -fed * bytes);
  }
  return usage;
}

}  // namespace kvlab::mutants

#include "none_cache.h"

namespace kvlab::plugins {

CacheTraits none_traits() {
  CacheTraits traits;
  traits.truncation = Truncation::exact;
  traits.forks = true;
  traits.bounded = true;
  traits.keeps_nothing = true;
  return traits;
}

namespace {

// The packed tensor [N,G,D] as a plane that starts at token `offset`.
KVPlane plane(const at::Tensor& packed, int64_t offset) {
  const auto size = static_cast<int64_t>(packed.element_size());
  const char* data = static_cast<const char*>(packed.const_data_ptr());
  return {data + offset * packed.stride(0) * size, packed.stride(0), packed.stride(1),
          packed.scalar_type()};
}

}  // namespace

NoneCache::NoneCache(const CacheShape& shape, StorageArena& arena)
    : RowwiseCache("none", none_traits(), shape),
      arena_(arena),
      layers_(static_cast<size_t>(shape.layers)),
      offsets_(static_cast<size_t>(shape.rows), 0) {}

void NoneCache::reserve(const StepPlan& plan) {
  for (const RowSlice& slice : plan.slices()) {
    offsets_[static_cast<size_t>(slice.row)] = slice.offset;
  }
}

void NoneCache::write(int layer, const RowSlice&, const IncomingKV& incoming) {
  Layer& kept = layers_[static_cast<size_t>(layer)];
  if (kept.keys.is_same(incoming.keys) && kept.values.is_same(incoming.values)) {
    return;  // another row of the same step
  }
  kept = Layer{};
  const auto bytes = static_cast<int64_t>(incoming.keys.nbytes() + incoming.values.nbytes());
  kept.hold = arena_.hold(bytes, MemoryKind::scratch);
  kept.keys = incoming.keys;
  kept.values = incoming.values;
}

void NoneCache::segments(int layer, int row, int64_t end, KVView& view) const {
  const Layer& kept = layers_[static_cast<size_t>(layer)];
  if (!kept.keys.defined()) return;
  const int64_t offset = offsets_[static_cast<size_t>(row)];
  KVSegment segment;
  segment.keys = plane(kept.keys, offset);
  segment.values = plane(kept.values, offset);
  segment.count = end;
  segment.head_end = static_cast<int>(shape().kv_heads);
  view.add(segment);
}

void NoneCache::drop(int, int64_t) noexcept { release_step(); }

int64_t NoneCache::commit(const RowSlice&) noexcept {
  release_step();
  return 0;
}

void NoneCache::copy_row(int, int) {}

void NoneCache::release_step() noexcept {
  for (Layer& layer : layers_) layer = Layer{};
}

}  // namespace kvlab::plugins

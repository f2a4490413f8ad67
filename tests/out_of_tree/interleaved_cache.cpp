// Keeps a token's keys and values side by side in one token-major buffer: writing a token touches one
// run of memory per layer, reading a head strides over the others.
#include "kvlab/cache/rowwise_cache.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

class InterleavedCache final : public RowwiseCache {
 public:
  InterleavedCache(const CacheTraits& traits, const CacheShape& s, StorageArena& arena)
      : RowwiseCache("interleaved", traits, s),
        buffer_(arena.allocate({s.rows * s.layers * s.max_length, s.token_bytes_per_layer()},
                               at::kByte, MemoryKind::storage)) {}

  double fragmentation() const override {
    double live = 0;
    for (int row = 0; row < shape().rows; ++row) live += static_cast<double>(length(row));
    return 1 - live / static_cast<double>(shape().rows * shape().max_length);
  }

 private:
  // One token is a run of one slot: keys [G,1,Dk], then values [G,1,Dv].
  Run token(int row, int layer, int64_t position) const {
    const CacheShape& s = shape();
    const int64_t index = (row * s.layers + layer) * s.max_length + position;
    char* keys = static_cast<char*>(buffer_.mutable_data_ptr()) + index * buffer_.size(1);
    return Run::over(keys, keys + s.kv_heads * s.key_dim * s.element_bytes(), 1, s);
  }

  // The base refuses texts beyond max_length, and what lies behind the length is never read.
  void reserve(const StepPlan&) override {}
  void drop(int, int64_t) noexcept override {}

  void write(int layer, const RowSlice& slice, const IncomingKV& incoming) override {
    for (int64_t i = 0; i < slice.count; ++i) {
      store_entries(incoming, slice.offset + i, 1, token(slice.row, layer, slice.first_position + i),
                    0);
    }
  }

  void segments(int layer, int row, int64_t end, KVView& view) const override {
    KVSegment segment = token(row, layer, 0).segment(0, end, 0);
    segment.keys.token_stride = buffer_.size(1) / shape().element_bytes();
    segment.values.token_stride = segment.keys.token_stride;
    view.add(segment);
  }

  at::Tensor buffer_;  // bytes: rows, layers, positions, one token's K and V
};

void register_cache_interleaved(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "interleaved";
  entry.info.summary = "K and V of a token side by side in one token-major buffer.";
  entry.bytes_formula = "2 * layers * kv_heads * head_dim * max_length * bytes per row";
  entry.traits = [](const CacheRequest&) {
    CacheTraits traits;
    traits.truncation = Truncation::exact;
    return traits;
  };
  entry.estimate = [](const CacheRequest& request, const StepSequence&) {
    const CacheShape& s = request.shape;
    MemoryUsage usage;
    usage.add(MemoryKind::storage, s.rows * s.layers * s.max_length * s.token_bytes_per_layer());
    return usage;
  };
  entry.create = [traits = entry.traits](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<InterleavedCache>(traits(request), request.shape, arena);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

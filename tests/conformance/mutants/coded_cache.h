// One buffer of int8 codes per row and layer, as long as the longest text, with a scale per token
// and head. Its registry entry does not say what it stores, so that nothing but the kit's own rules
// about codes can find a bug.
#pragma once

#include <vector>

#include "planted_cache.h"

namespace kvlab::mutants {

class CodedCache final : public PlantedCache {
 public:
  CodedCache(Bug bug, const CacheShape& shape, StorageArena& arena);

  double fragmentation() const override;

 private:
  // Codes [G,C,D] and scales [G,C] of K or V of one row and layer.
  struct Plane {
    at::Tensor codes, scales;
  };
  struct Buffer {
    Plane keys, values;
  };

  void reserve(const StepPlan&) override {}
  void store(int layer, const RowSlice& slice, const IncomingKV& incoming) override;
  void list(int layer, int row, int64_t end, KVView& view) const override;
  void drop(int, int64_t) noexcept override {}
  void copy_row(int from, int to) override;

  Plane allocate(int64_t dim, StorageArena& arena) const;
  void store_plane(const at::Tensor& incoming, const RowSlice& slice, const Plane& held) const;
  float encode(const float* numbers, int64_t dim, int8_t* codes) const;
  KVPlane described(const Plane& held) const;
  int64_t copy_plane(const Plane& from, const Plane& to, int64_t entries) const;
  Buffer& buffer(int64_t layer, int64_t row) {
    return buffers_.at(static_cast<size_t>(row * shape().layers + layer));
  }
  const Buffer& buffer(int64_t layer, int64_t row) const {
    return buffers_.at(static_cast<size_t>(row * shape().layers + layer));
  }

  std::vector<Buffer> buffers_;
};

CacheTraits coded_traits(Bug bug);

/// Bytes after any sequence; shares no size code with the cache.
MemoryUsage coded_estimate(const CacheShape& shape);

}  // namespace kvlab::mutants

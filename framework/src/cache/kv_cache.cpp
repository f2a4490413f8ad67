#include "kvlab/cache/kv_cache.h"

#include <algorithm>
#include <map>
#include <utility>

#include "kvlab/core/error.h"

namespace kvlab {

void KVCache::unsupported(const char* operation) const {
  throw UserError(detail::concat("[cache.", name_, ".", operation, "] not supported by ", name_));
}

void KVCache::observe(int, const AttentionFeedback&) { unsupported("observe"); }
int64_t KVCache::truncate(int, int64_t) { unsupported("truncate"); }
void KVCache::fork(int, int) { unsupported("fork"); }
int64_t KVCache::match_prefix(int, std::span<const int32_t>) { unsupported("match_prefix"); }

int64_t payload_bytes(const KVCache& cache, const CacheShape& shape) {
  // A shared run may be longer in one row than in another: per address the longest counts.
  std::map<std::pair<const void*, int64_t>, int64_t> runs;
  KVView view;
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    for (int64_t row = 0; row < shape.rows; ++row) {
      cache.inspect(static_cast<int>(layer), static_cast<int>(row), view);
      for (const KVSegment& segment : view.segments(0)) {
        const int64_t heads = segment.head_end - segment.head_begin;
        for (const auto& [plane, dim] : {std::pair{segment.keys, view.key_dim()},
                                         std::pair{segment.values, view.value_dim()}}) {
          const auto size = static_cast<int64_t>(c10::elementSize(plane.type));
          int64_t& bytes = runs[{plane.data, heads}];
          bytes = std::max(bytes, heads * segment.count * dim * size);
        }
      }
    }
  }
  int64_t total = 0;
  for (const auto& [address, bytes] : runs) total += bytes;
  return total;
}

}  // namespace kvlab

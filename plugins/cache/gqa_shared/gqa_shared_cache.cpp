#include "gqa_shared_cache.h"

#include <ATen/core/Tensor.h>

#include "kvlab/core/error.h"

namespace kvlab::plugins {

CacheTraits gqa_shared_traits(const CacheTraits& inner, int64_t kv_heads, int64_t stored_heads) {
  CacheTraits traits = inner;
  traits.exact = inner.exact && stored_heads >= kv_heads;
  return traits;
}

GqaSharedCache::GqaSharedCache(std::unique_ptr<KVCache> inner, const CacheShape& shape,
                               int64_t stored_heads)
    : ForwardingCache("gqa_shared", std::move(inner)),
      traits_(gqa_shared_traits(this->inner().traits(), shape.kv_heads, stored_heads)),
      shape_(shape),
      stored_heads_(stored_heads) {}

// [N,G,D] -> [N,stored,D]
at::Tensor GqaSharedCache::regroup(const at::Tensor& heads) const {
  const int64_t tokens = heads.size(0);
  const int64_t dim = heads.size(2);
  if (stored_heads_ == shape_.kv_heads) return heads;
  if (stored_heads_ < shape_.kv_heads) {
    const int64_t pooled = shape_.kv_heads / stored_heads_;
    return heads.reshape({tokens, stored_heads_, pooled, dim}).mean(2);
  }
  const int64_t copies = stored_heads_ / shape_.kv_heads;
  return heads.unsqueeze(2)
      .expand({tokens, shape_.kv_heads, copies, dim})
      .reshape({tokens, stored_heads_, dim});
}

void GqaSharedCache::append(int layer, const at::Tensor& key, const at::Tensor& value) {
  for (const at::Tensor* tensor : {&key, &value}) {
    KVLAB_CHECK(tensor->dim() == 3 && tensor->size(1) == shape_.kv_heads &&
                    (tensor->size(2) == 1 || tensor->stride(2) == 1),
                "[cache.gqa_shared.append] expected [N,", shape_.kv_heads,
                ",D] with contiguous head dimension, got ", tensor->sizes(), " strides ",
                tensor->strides());
    KVLAB_CHECK(tensor->scalar_type() == shape_.dtype,
                "[cache.gqa_shared.append] expected the cache's dtype ",
                c10::toString(shape_.dtype), ", got ", c10::toString(tensor->scalar_type()));
  }
  inner().append(layer, regroup(key), regroup(value));
}

}  // namespace kvlab::plugins

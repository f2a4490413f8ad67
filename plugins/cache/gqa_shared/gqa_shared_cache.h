// Changes how many KV heads are stored, around any other cache. Grouped-query attention: Ainslie et
// al., 2023, arXiv:2305.13245, whose conversion mean-pools the heads of a group.
#pragma once

#include "kvlab/cache/forwarding_cache.h"

namespace kvlab::plugins {

/// Stores `stored_heads` KV heads instead of the model's G. Equal: the model's own grouping, exact.
/// Fewer: each run of G / stored_heads heads is mean-pooled into one, approximate. More: every
/// head is stored several times, exact, which shows what sharing saves.
class GqaSharedCache final : public ForwardingCache {
 public:
  /// `inner` is built for `stored_heads`; `shape` is the model's.
  GqaSharedCache(std::unique_ptr<KVCache> inner, const CacheShape& shape, int64_t stored_heads);

  const CacheTraits& traits() const override { return traits_; }
  void append(int layer, const at::Tensor& key, const at::Tensor& value) override;

 private:
  at::Tensor regroup(const at::Tensor& heads) const;

  CacheTraits traits_;
  CacheShape shape_;
  int64_t stored_heads_;
};

/// Traits of the inner cache, exact only where no heads are pooled.
CacheTraits gqa_shared_traits(const CacheTraits& inner, int64_t kv_heads, int64_t stored_heads);

}  // namespace kvlab::plugins

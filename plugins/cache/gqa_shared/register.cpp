#include "gqa_shared_cache.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

namespace {

int64_t stored_heads(const CacheRequest& request) {
  const CacheShape& shape = request.shape;
  const int64_t asked = request.options.integer("kv_heads");
  const int64_t heads = asked == 0 ? shape.kv_heads : asked;
  const bool fits = heads <= shape.kv_heads
                        ? shape.kv_heads % heads == 0
                        : heads % shape.kv_heads == 0 && shape.query_heads % heads == 0;
  KVLAB_CHECK(fits, "[cache.gqa_shared] kv_heads must divide the model's ", shape.kv_heads,
              " KV heads, or be a multiple of them that divides its ", shape.query_heads,
              " query heads, got ", heads);
  return heads;
}

CacheShape inner_shape(const CacheRequest& request) {
  CacheShape shape = request.shape;
  shape.kv_heads = stored_heads(request);
  return shape;
}

}  // namespace

void register_cache_gqa_shared(Registry& registry) {
  CacheEntry entry;
  entry.info.name = "gqa_shared";
  entry.info.summary = "Stores another number of KV heads than the model has, in any other cache: "
                       "fewer by mean-pooling (approximate), more by expanding (the control).";
  entry.info.citation = "Ainslie et al., GQA: Training Generalized Multi-Query Transformer Models "
                        "from Multi-Head Checkpoints, 2023, arXiv:2305.13245";
  OptionSpec kv_heads;
  kv_heads.name = "kv_heads";
  kv_heads.default_text = "0";
  kv_heads.unit = "heads";
  kv_heads.minimum = 0;
  kv_heads.maximum = 65536;
  kv_heads.doc = "Heads to store; 0 = the model's own n_kv_heads.";
  OptionSpec inner;
  inner.name = "inner";
  inner.type = OptionType::component;
  inner.default_text = "preallocated";
  inner.doc = "The cache that does the storing, by name.";
  entry.info.options = {kv_heads, inner};
  entry.bytes_formula = "the inner cache's, times kv_heads / n_kv_heads";
  entry.traits = [](const CacheRequest& request) {
    const CacheTraits traits = request.registry.cache_traits(request.options.component("inner"),
                                                             inner_shape(request));
    return gqa_shared_traits(traits, request.shape.kv_heads, stored_heads(request));
  };
  entry.estimate = [](const CacheRequest& request, const StepSequence& sequence) {
    return request.registry.estimate_cache(request.options.component("inner"),
                                           inner_shape(request), sequence);
  };
  entry.create = [](const CacheRequest& request, StorageArena& arena) {
    return std::make_unique<GqaSharedCache>(
        request.registry.make_cache(request.options.component("inner"), inner_shape(request),
                                    arena),
        request.shape, stored_heads(request));
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

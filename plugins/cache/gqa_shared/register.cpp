#include <c10/util/BFloat16.h>

#include <algorithm>
#include <span>
#include <vector>

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

double rounded(double value, at::ScalarType dtype) {
  const auto single = static_cast<float>(value);
  return dtype == at::kBFloat16 ? static_cast<float>(c10::BFloat16(single)) : single;
}

// Fewer heads: the mean of each run of neighbours. More: each head several times in a row. Then what
// the inner cache makes of them; nothing where that cannot be said.
std::vector<double> stored_entry(const CacheRequest& request, std::span<const double> heads,
                                 int64_t dim) {
  const CacheShape shape = inner_shape(request);
  const int64_t own = request.shape.kv_heads;
  const auto element = [&](int64_t head, int64_t d) {
    return heads[static_cast<size_t>(head * dim + d)];
  };
  std::vector<double> regrouped;
  for (int64_t head = 0; head < shape.kv_heads; ++head) {
    const int64_t pooled = std::max<int64_t>(1, own / shape.kv_heads);
    const int64_t copies = std::max<int64_t>(1, shape.kv_heads / own);
    for (int64_t d = 0; d < dim; ++d) {
      double sum = 0;
      for (int64_t i = 0; i < pooled; ++i) sum += element(head / copies * pooled + i, d);
      regrouped.push_back(rounded(sum / static_cast<double>(pooled), shape.dtype));
    }
  }
  const ComponentSpec& inner = request.options.component("inner");
  const CacheEntry& entry = request.registry.cache(inner.type);
  const Options options = request.registry.cache_options(inner);
  const CacheRequest inner_request{options, shape, request.registry};
  if (entry.stored_entry) return entry.stored_entry(inner_request, regrouped, dim);
  const CacheTraits traits = entry.traits(inner_request);
  return traits.exact || traits.window > 0 ? regrouped : std::vector<double>{};
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
  entry.info.examples = {"kv_heads=1",
                         "kv_heads=2,inner=paged,inner.block_size=3",
                         "kv_heads=3",
                         "kv_heads=6,inner=concat",
                         "inner=paged,inner.block_size=5",
                         "inner=none",
                         "kv_heads=1,inner=ring,inner.window=5"};
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
  entry.stored_entry = stored_entry;
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

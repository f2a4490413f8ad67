#include "kvlab/runtime/registry.h"
#include "sdpa_attention.h"

namespace kvlab::plugins {

void register_attention_sdpa(Registry& registry) {
  AttentionEntry entry;
  entry.info = {"sdpa", "LibTorch's fused scaled_dot_product_attention with an explicit mask.",
                "Dao et al., FlashAttention, 2022, arXiv:2205.14135", {}};
  entry.traits = [](const Options&) { return sdpa_traits(); };
  entry.create = [](const Options&) { return std::make_unique<SdpaAttention>(); };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

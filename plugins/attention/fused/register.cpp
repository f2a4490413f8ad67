#include "fused_attention.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

void register_attention_fused(Registry& registry) {
  OptionSpec share_loads;
  share_loads.name = "share_loads";
  share_loads.type = OptionType::boolean;
  share_loads.default_text = "true";
  share_loads.doc =
      "Query heads of a group share one pass over K and V; false to measure the gain.";
  AttentionEntry entry;
  entry.info = {
      "fused",
      "Own kernels on segments where they lie; one pass over K and V.",
      "Dao et al., FlashAttention, 2022, arXiv:2205.14135; Milakov and Gimelshein, Online "
      "normalizer calculation for softmax, 2018, arXiv:1805.02867",
      {share_loads}};
  entry.info.examples = {"share_loads=false"};
  entry.traits = [](const Options&) { return fused_traits(); };
  entry.create = [](const Options& options) {
    return std::make_unique<FusedAttention>(FusedOptions{options.boolean("share_loads")});
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

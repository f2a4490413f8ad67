#include "eager_attention.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

void register_attention_eager(Registry& registry) {
  AttentionEntry entry;
  entry.info = {"eager", "Plain tensor operations in fp32: the readable reference.",
                "Vaswani et al., Attention Is All You Need, 2017, arXiv:1706.03762", {}};
  entry.traits = [](const Options&) { return eager_traits(); };
  entry.create = [](const Options&) { return std::make_unique<EagerAttention>(); };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

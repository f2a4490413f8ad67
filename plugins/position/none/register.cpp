#include "kvlab/runtime/registry.h"
#include "none_position.h"

namespace kvlab::plugins {

void register_position_none(Registry& registry) {
  PositionEntry entry;
  entry.info = {"none", "No position information besides the causal mask.",
                "Haviv et al., Transformer Language Models without Positional Encodings, 2022, arXiv:2203.16634", {}};
  entry.traits = [](const Options&, const PositionShape&) {
    return NonePosition().traits();
  };
  entry.create = [](const Options&, const PositionShape&) {
    return std::make_unique<NonePosition>();
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

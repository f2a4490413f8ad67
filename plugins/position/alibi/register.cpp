#include "kvlab/runtime/registry.h"
#include "alibi_position.h"

namespace kvlab::plugins {

void register_position_alibi(Registry& registry) {
  PositionEntry entry;
  entry.info = {"alibi", "A penalty on distance, added to the scores.",
                "Press et al., Train Short, Test Long, 2022, arXiv:2108.12409", {}};
  entry.traits = [](const Options&, const PositionShape& shape) {
    return AlibiPosition(shape).traits();
  };
  entry.create = [](const Options&, const PositionShape& shape) {
    return std::make_unique<AlibiPosition>(shape);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

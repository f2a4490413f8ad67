#include "kvlab/runtime/registry.h"
#include "learned_position.h"

namespace kvlab::plugins {

void register_position_learned(Registry& registry) {
  PositionEntry entry;
  entry.info = {"learned", "A trained vector per position, added to the embedding.",
                "Radford et al., Language Models are Unsupervised Multitask Learners, 2019", {}};
  entry.traits = [](const Options&, const PositionShape& shape) {
    return learned_traits(shape.context);
  };
  entry.create = [](const Options&, const PositionShape& shape) {
    return std::make_unique<LearnedPosition>(shape);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

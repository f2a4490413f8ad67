#include "kvlab/runtime/registry.h"
#include "sinusoidal_position.h"

namespace kvlab::plugins {

void register_position_sinusoidal(Registry& registry) {
  PositionEntry entry;
  entry.info = {"sinusoidal", "Fixed sines and cosines, added to the embedding.",
                "Vaswani et al., Attention Is All You Need, 2017, arXiv:1706.03762", {}};
  entry.traits = [](const Options&, const PositionShape& shape) {
    return SinusoidalPosition(shape).traits();
  };
  entry.create = [](const Options&, const PositionShape& shape) {
    return std::make_unique<SinusoidalPosition>(shape);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

#include "kvlab/runtime/registry.h"
#include "rope_position.h"

namespace kvlab::plugins {

void register_position_rope(Registry& registry) {
  PositionEntry entry;
  entry.info.name = "rope";
  entry.info.summary = "Rotates queries and keys by an angle that grows with the position.";
  entry.info.citation = "Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, "
                        "2021, arXiv:2104.09864";
  OptionSpec theta;
  theta.name = "theta";
  theta.type = OptionType::number;
  theta.default_text = "10000";
  theta.minimum = 1;
  theta.doc = "Base of the angles: pair i turns by theta^(-2i/D) per position.";
  entry.info.options = {theta};
  entry.info.examples = {"theta=500000"};
  entry.traits = [](const Options&, const PositionShape& shape) {
    return rope_traits(shape);
  };
  entry.create = [](const Options& options, const PositionShape& shape) {
    return std::make_unique<RopePosition>(options.number("theta"), shape);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins

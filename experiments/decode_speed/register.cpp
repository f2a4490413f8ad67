#include "decode_speed_experiment.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

void register_decode_speed(Registry& registry) {
  ExperimentEntry entry;
  entry.info = {
      "decode_speed",
      "Time of a decode step by cache, depth, element types and batch, beside the time that "
      "reading its bytes takes, and what limits it.",
      "",
      {}};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<decode_speed_kind::DecodeSpeed>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

#include "generate_experiment.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

void register_generate(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "generate";
  entry.info.summary = "Text in, text out, streamed, with any cache.";
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<generate_kind::GenerateExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

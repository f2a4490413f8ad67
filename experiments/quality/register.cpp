#include "kvlab/runtime/registry.h"
#include "quality_experiment.h"

namespace kvlab::experiments {

void register_quality(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "quality";
  entry.info.summary = "What a cache costs in quality on real text, beside the bytes it saves.";
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<quality_kind::QualityExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

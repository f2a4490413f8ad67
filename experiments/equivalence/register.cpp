#include "equivalence_experiment.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

void register_equivalence(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "equivalence";
  entry.info.summary =
      "Every cache with every attention, position, element type and chunk size against no cache.";
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<equivalence_kind::EquivalenceExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

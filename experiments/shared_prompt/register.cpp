#include "kvlab/runtime/registry.h"
#include "shared_prompt_experiment.h"

namespace kvlab::experiments {

void register_shared_prompt(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "shared_prompt";
  entry.info.summary = "One prompt, many sampled continuations: what forking a cache saves.";
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<shared_prompt_kind::SharedPromptExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

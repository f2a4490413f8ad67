#include "conversation_experiment.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

void register_conversation(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "conversation";
  entry.info.summary = "What keeping the cache between the turns of a conversation saves.";
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<conversation_kind::ConversationExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

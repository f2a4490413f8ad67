#include "conversation_experiment.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

namespace {

// Reaches every key: what the schema knows of this kind.
constexpr const char* kExample = R"(
arms: [{name: a, cache: preallocated}]
control: a
workload: {conversation: {jsonl: turns.jsonl, line: 1}, new_tokens: 2, sampler: {type: greedy}}
runtime: {threads: 1}
measure: {repeats: 1}
)";

}  // namespace

void register_conversation(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "conversation";
  entry.info.summary = "What keeping the cache between the turns of a conversation saves.";
  entry.info.examples = {detail::concat("model: ", kExampleModel, kExample)};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<conversation_kind::ConversationExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

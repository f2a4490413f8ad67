#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"
#include "shared_prompt_experiment.h"

namespace kvlab::experiments {

namespace {

// Reaches every key: what the schema knows of this kind.
constexpr const char* kExample = R"(
arms: [{name: a, cache: preallocated}, {name: b, cache: preallocated}]
control: a
workload: {prompt: {random: 0, tokens: 4}, continuations: 2, new_tokens: 2,
           sampler: {type: sample, temperature: 1.0, top_k: 0, top_p: 1.0, seed: 1}}
runtime: {threads: 1}
measure: {repeats: 1}
)";

}  // namespace

void register_shared_prompt(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "shared_prompt";
  entry.info.summary = "One prompt, many sampled continuations: what forking a cache saves.";
  entry.info.examples = {detail::concat("model: ", kExampleModel, kExample)};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<shared_prompt_kind::SharedPromptExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

#include "generate_experiment.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

namespace {

// Together they reach every key in every form: what the schema knows of this kind.
constexpr const char* kOnePrompt = R"(
arms: [{name: a, cache: none}]
workload: {prompt: {ids: [1]}, new_tokens: 1, sampler: {type: greedy}, stop_tokens: [0]}
runtime: {threads: 1}
)";
constexpr const char* kSeveralPrompts = R"(
arms: [{name: a, cache: none}]
workload: {prompt: [{ids: [1]}], new_tokens: 1}
)";

}  // namespace

void register_generate(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "generate";
  entry.info.summary = "Text in, text out, streamed, with any cache.";
  entry.info.examples = {detail::concat("model: ", kExampleModel, kOnePrompt),
                         detail::concat("model: ", kExampleModel, kSeveralPrompts)};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<generate_kind::GenerateExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"
#include "quality_experiment.h"

namespace kvlab::experiments {

namespace {

// Together they reach every key in every form: what the schema knows of this kind.
constexpr const char* kEven = R"(
arms: [{name: a, cache: none}, {name: b, cache: none}]
control: a
workload: {text: {random: 0, tokens: 60}, documents: 2, document_tokens: 2, first_bucket: 1,
           offset: 0, stride: 2}
runtime: {threads: 1}
)";
constexpr const char* kDrawn = R"(
arms: [{name: a, cache: none}, {name: b, cache: none}]
control: a
workload: {text: {random: 0, tokens: 60}, documents: 2, document_tokens: 2, first_bucket: 1, seed: 1}
)";

}  // namespace

void register_quality(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "quality";
  entry.info.summary = "What a cache costs in quality on real text, beside the bytes it saves.";
  entry.info.examples = {detail::concat("model: ", kExampleModel, kEven),
                         detail::concat("model: ", kExampleModel, kDrawn)};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<quality_kind::QualityExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

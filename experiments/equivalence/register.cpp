#include "equivalence_experiment.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

namespace {

// Together they reach every key in every form: what the schema knows of this kind.
constexpr const char* kOneModel = R"(
caches: [none]
attentions: [fused]
positions: [none]
workload: {texts: [{ids: [1]}]}
runtime: {threads: 1}
)";
constexpr const char* kAll = R"(]
caches: all
attentions: all
positions: all
workload: {texts: [{ids: [1]}]}
)";

}  // namespace

void register_equivalence(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "equivalence";
  entry.info.summary =
      "Every cache with every attention, position, element type and chunk size against no cache.";
  entry.info.examples = {detail::concat("model: ", kExampleModel, kOneModel),
                         detail::concat("models: [", kExampleModel, kAll)};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<equivalence_kind::EquivalenceExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"
#include "memory_table_experiment.h"

namespace kvlab::experiments {

namespace {

// Together they reach every key in every form: what the schema knows of this kind.
constexpr const char* kTable = R"(]
lengths: [1]
kv_heads: [1]
window_layers: [{window: 1, layers: 1}]
caches: [none]
measure: {max_bytes: 1}
)";

}  // namespace

void register_memory_table(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "memory_table";
  entry.info.summary =
      "How many bytes of keys and values a text takes: by formula, by each cache's own estimate, "
      "and measured.";
  entry.info.examples = {detail::concat("models: [", kExampleModel, kTable)};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<memory_table_kind::MemoryTableExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

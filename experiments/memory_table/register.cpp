#include "kvlab/runtime/registry.h"
#include "memory_table_experiment.h"

namespace kvlab::experiments {

void register_memory_table(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "memory_table";
  entry.info.summary =
      "How many bytes of keys and values a text takes: by formula, by each cache's own estimate, "
      "and measured.";
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<memory_table_kind::MemoryTableExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

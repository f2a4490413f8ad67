#include "generation_benchmark_experiment.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

void register_generation_benchmark(Registry& registry) {
  ExperimentEntry entry;
  entry.info = {"generation_benchmark",
                "Arms by prompt length, output length and batch: speed with intervals behind an "
                "equality gate, break-even output length, and memory.",
                "", {}};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<GenerationBenchmark>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

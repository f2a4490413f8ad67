#include "generation_benchmark_experiment.h"
#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::experiments {

namespace {

// Together they reach every key in every form: what the schema knows of this kind.
constexpr const char* kOneBatch = R"(
arms: [{name: a, cache: none}]
control: a
isolation: process
limits: {seconds: 1}
workload: {prompt: {ids: [1]}, new_tokens: [1], batch: 1, sampler: {type: greedy}, stop_tokens: [0]}
runtime: {threads: 1}
measure: {repeats: 1, trace: true}
published: [{what: a, value: b, source: c}]
)";
constexpr const char* kSeveralBatches = R"(
arms: [{name: a, cache: none}]
control: a
workload: {prompt: {random: 0}, prompt_tokens: [1], new_tokens: [1], batch: [1, 2]}
)";

}  // namespace

void register_generation_benchmark(Registry& registry) {
  ExperimentEntry entry;
  entry.info = {"generation_benchmark",
                "Arms by prompt length, output length and batch: speed with intervals behind an "
                "equality gate, break-even output length, and memory.",
                "", {}};
  entry.info.examples = {detail::concat("model: ", kExampleModel, kOneBatch),
                         detail::concat("model: ", kExampleModel, kSeveralBatches)};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<GenerationBenchmark>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

#include "kvlab/runtime/config_schema.h"
#include "kvlab/runtime/registry.h"
#include "work_trace_experiment.h"

namespace kvlab::experiments {

namespace {

// Together they reach every key in every form: what the schema knows of this kind.
constexpr const char* kTrace = R"(
arms: [{name: a, cache: none}]
control: a
workload: {prompt: {ids: [1]}}
runtime: {threads: 1}
)";
constexpr const char* kCounters = R"(
counters: {prompt_tokens: 1, new_tokens: 1, model: )";

}  // namespace

void register_work_trace(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "work_trace";
  entry.info.summary =
      "Which keys and values every step computes and which it reuses, seen in the running engine.";
  entry.info.examples = {detail::concat("model: ", kExampleModel, kTrace),
                         detail::concat("model: ", kExampleModel, kTrace, kCounters, kExampleModel, "}")};
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<work_trace_kind::WorkTraceExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

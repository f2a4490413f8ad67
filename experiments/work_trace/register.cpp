#include "kvlab/runtime/registry.h"
#include "work_trace_experiment.h"

namespace kvlab::experiments {

void register_work_trace(Registry& registry) {
  ExperimentEntry entry;
  entry.info.name = "work_trace";
  entry.info.summary =
      "Which keys and values every step computes and which it reuses, seen in the running engine.";
  entry.create = [](ExperimentConfig& config, const Registry& known) {
    return std::make_unique<work_trace_kind::WorkTraceExperiment>(config, known);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::experiments

// Which cache is faster, from which output length on, and what it costs in memory.
#pragma once

#include <memory>
#include <string>

#include "kvlab/runtime/experiment.h"
#include "workload.h"

namespace kvlab::experiments {

class GenerationBenchmark final : public Experiment {
 public:
  /// Reads and checks the config. Throws UserError with every reason why an arm cannot run.
  GenerationBenchmark(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;
  uint64_t seed() const override { return config_.shared.measure.seed; }
  bool isolates_arms() const override { return true; }
  std::unique_ptr<ArmService> serve_arm(const std::string& name, const Registry& registry) override;

 private:
  BenchmarkConfig config_;
};

}  // namespace kvlab::experiments

// How long a decode step takes with each cache, and what limits it.
#pragma once

#include "kvlab/runtime/experiment.h"
#include "speed_config.h"

namespace kvlab::experiments::decode_speed_kind {

class DecodeSpeed final : public Experiment {
 public:
  /// Reads and checks the config. Throws UserError with every reason why an arm cannot run.
  DecodeSpeed(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;
  uint64_t seed() const override { return config_.measure.seed; }

 private:
  SpeedConfig config_;
};

}  // namespace kvlab::experiments::decode_speed_kind

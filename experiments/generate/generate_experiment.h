// Text in, text out: feeds the prompts to each arm and streams what it writes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/generator.h"

namespace kvlab::experiments::generate_kind {

class GenerateExperiment : public Experiment {
 public:
  /// Reads model, arms, runtime and workload, and checks whatever needs no weights. Throws
  /// UserError.
  GenerateExperiment(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;
  uint64_t seed() const override { return sampler_.seed; }

 private:
  void read_workload(ConfigReader workload);
  void check_lengths(const ConfigReader& workload) const;
  SessionOptions session_options(const ArmConfig& arm) const;
  int64_t longest_text() const;
  GenerateResult run_arm(RunContext& context, const ArmConfig& arm, const Model& model) const;
  void record(RunContext& context, const ArmConfig& arm, const GenerateResult& result) const;
  std::string written(const std::vector<int32_t>& tokens) const;

  ModelSource source_;
  ModelConfig shape_;
  std::shared_ptr<const Tokenizer> tokenizer_;  // shared with the models that are loaded later
  std::vector<ArmConfig> arms_;
  RuntimeConfig runtime_;
  std::vector<std::vector<int32_t>> prompts_;  // tokens of each row
  int64_t new_tokens_ = 0;
  SamplerConfig sampler_;
  std::vector<int32_t> stop_tokens_;
};

}  // namespace kvlab::experiments::generate_kind

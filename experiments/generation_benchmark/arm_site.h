// Where arms do their work: all in this process, or each in a process of its own.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "equality_gate.h"
#include "kvlab/runtime/experiment.h"
#include "measurement.h"

namespace kvlab::experiments {

/// Loads each model once: arms that replace the position encoding have another one.
class ArmModels {
 public:
  explicit ArmModels(const BenchmarkConfig& config) : config_(config) {}

  /// The arm with its model, which lives as long as this object. Throws UserError or MissingError.
  ReadyArm ready(const ArmConfig& arm, const Registry& registry);

 private:
  const Model& model_of(const ArmConfig& arm);

  const BenchmarkConfig& config_;
  std::map<std::string, std::unique_ptr<Model>> models_;
};

ModelFacts facts_of(const Model& model);

/// Does what the arms are asked for. Arms are numbered as in the config. All functions throw what
/// the arm throws, and InterruptedError.
class ArmSite {
 public:
  virtual ~ArmSite() = default;

  /// Loads the arm's model.
  virtual ModelFacts load(size_t arm) = 0;

  /// What follows is about this case, number `index`. Throws where the control cannot do it.
  virtual void begin_case(const Case& one, size_t index) = 0;

  virtual GateResult gate(size_t arm) = 0;
  virtual Sample run(size_t arm) = 0;

  /// Runs the arm and says when its parts ran, as Trace Event Format.
  virtual std::string trace(size_t arm) = 0;

  /// The arm has nothing more to do.
  virtual void finish(size_t arm) = 0;
};

/// All arms share this process, its models, and one run of the control per gate.
std::unique_ptr<ArmSite> share_process(const BenchmarkConfig& config, size_t control,
                                       RunContext& context);

/// Each arm has its own process and its own copy of the weights, and gates itself against a control
/// of its own. Processes wait while others work.
std::unique_ptr<ArmSite> separate_processes(const BenchmarkConfig& config, RunContext& context);

}  // namespace kvlab::experiments

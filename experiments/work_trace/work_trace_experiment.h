// Shows, step by step and layer by layer, which keys and values are computed and which are reused,
// and counts what that means for a whole text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/experiment.h"
#include "kvlab/runtime/figures.h"
#include "kvlab/runtime/model.h"
#include "kvlab/runtime/session.h"
#include "tracing_cache.h"

namespace kvlab::experiments::work_trace_kind {

/// Layers, one after another, that did the same in every step.
struct LayerGroup {
  int64_t first = 0, last = 0;
  std::vector<LayerTrace> steps;  ///< of the first layer
};

/// What an arm did with the traced text.
struct ArmTrace {
  std::string arm;
  int64_t token_forwards = 0;  ///< as the session counted them
  std::vector<LayerGroup> groups;
  std::vector<float> last_logits;
};

class WorkTraceExperiment : public Experiment {
 public:
  /// Reads model, arms, control, runtime, workload and counters. Throws UserError.
  WorkTraceExperiment(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;

 private:
  struct Counters {
    ModelSource model;
    int64_t prompt_tokens = 0;
    int64_t new_tokens = 0;
  };

  void read_text(ConfigReader& reader, const ModelConfig& shape);
  void read_counters(ConfigReader reader);
  SessionOptions session_options(const ArmConfig& arm, int64_t max_length) const;

  ArmTrace trace_arm(RunContext& context, const ArmConfig& arm, const Model& model) const;
  void trace_arms(RunContext& context, ExperimentResult& outcome);
  void report_traces(const std::vector<ArmTrace>& traces, ExperimentResult& outcome) const;
  void check_traces(const std::vector<ArmTrace>& traces, RunContext& context,
                    ExperimentResult& outcome) const;
  void count_arms(RunContext& context, ExperimentResult& outcome) const;
  ReportFigure picture(const std::vector<ArmTrace>& traces) const;
  void add_failure(RunContext& context, ExperimentResult& outcome, const std::string& what,
                   const std::string& reason) const;

  ModelSource source_;
  ModelConfig shape_;
  std::vector<ArmConfig> arms_;
  std::string control_;
  RuntimeConfig runtime_;
  std::vector<int32_t> tokens_;
  std::vector<std::string> words_;  ///< how each token is shown
  std::optional<Counters> counters_;
};

}  // namespace kvlab::experiments::work_trace_kind

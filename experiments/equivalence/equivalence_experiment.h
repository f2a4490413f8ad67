// The matrix of everything that must agree: caches, attentions, positions, element types and chunk
// sizes against no cache.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "case_runner.h"
#include "kvlab/runtime/experiment.h"

namespace kvlab::experiments::equivalence_kind {

class EquivalenceExperiment : public Experiment {
 public:
  /// Reads model or models, caches, attentions, positions, dtypes, chunks, workload and runtime.
  /// Throws UserError.
  EquivalenceExperiment(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;
  uint64_t seed() const override { return seed_; }

 private:
  void read_models(ConfigReader& reader);
  void read_components(ConfigReader& reader, const Registry& registry);
  void read_texts(ConfigReader workload);
  void record(RunContext& context, const CaseResult& result);

  ReportSection summary(ExperimentResult& outcome) const;
  ReportSection all_cases() const;
  void judge(ExperimentResult& outcome) const;

  std::vector<ModelSource> models_;
  std::vector<std::vector<std::vector<int32_t>>> texts_;  ///< per model, per row
  Combinations combinations_;
  int threads_ = 1;
  uint64_t seed_ = 0;
  std::vector<CaseResult> results_;
};

}  // namespace kvlab::experiments::equivalence_kind

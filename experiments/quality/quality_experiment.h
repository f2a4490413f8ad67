// Caches on real text: teacher-forced, compared with the control token by token.
#pragma once

#include "document_score.h"
#include "kvlab/runtime/experiment.h"
#include "quality_config.h"

namespace kvlab::experiments::quality_kind {

/// What was found about one arm: one score per document that all arms finished.
struct ArmScores {
  ArmConfig arm;
  bool exact = false;  ///< its traits promise the control's answer
  bool keeps_nothing = false;
  bool gated = false;  ///< the equality gate applies: exact, and fp32 throughout
  bool failed = false;
  std::vector<DocumentScore> documents;
};

class QualityExperiment : public Experiment {
 public:
  /// Reads model, arms, control, runtime and workload. Throws UserError.
  QualityExperiment(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;
  uint64_t seed() const override { return config_.seed; }

 private:
  struct RunningArm;

  void score_all(RunContext& context, std::vector<RunningArm>& arms, size_t document,
                 ExperimentResult& outcome);
  void record(RunContext& context, const ArmScores& scores, size_t document) const;

  QualityConfig config_;
};

}  // namespace kvlab::experiments::quality_kind

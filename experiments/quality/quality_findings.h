// What the scores of a run say about each arm, before it becomes tables, figures and sentences.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/bootstrap.h"
#include "kvlab/runtime/rates.h"
#include "quality_experiment.h"

namespace kvlab::experiments::quality_kind {

enum class QualityVerdict { control, equal, differs, worse, better, indistinguishable };

/// "control", "equal", "wrong", "worse", "better", "not distinguishable".
const char* verdict_name(QualityVerdict verdict);

/// Everything that tables, figures and sentences say about one arm. Intervals are per token, over
/// documents: tokens of one document depend on each other, documents do not.
struct ArmFinding {
  const ArmScores* scores = nullptr;
  bool is_control = false;
  BootstrapInterval divergence, nll_change, nll;
  Rate agreement;
  std::vector<BootstrapInterval> nll_change_by_bucket;
  std::vector<double> bucket_p;  ///< adjusted; empty where the arm was not tested
  double p = 1;                  ///< adjusted
  QualityVerdict verdict = QualityVerdict::control;
  HeldBytes held;

  const std::string& name() const { return scores->arm.name; }
  /// Judged by its interval and not by the equality gate.
  bool tested() const;
};

/// Arms in the order of the config, without those that failed, and how many comparisons were made.
struct QualityFindings {
  std::vector<ArmFinding> arms;
  size_t comparisons = 0;  ///< of arms: one family of tests
  size_t by_position = 0;  ///< of arms by position: another one

  const ArmFinding& control() const;
};

/// `scores` must outlive the findings.
QualityFindings find_quality(const QualityConfig& config, const std::vector<ArmScores>& scores);

/// Worse or better where the interval excludes zero and the adjusted p is small enough.
QualityVerdict tested_verdict(const BootstrapInterval& change, double adjusted_p);

/// The rule in words, with the number of comparisons.
std::string quality_rule(const QualityFindings& findings);

}  // namespace kvlab::experiments::quality_kind

// What the samples and gates of a run say, before it becomes tables, figures and sentences.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/memory_floor.h"
#include "kvlab/runtime/statistics.h"
#include "speed_measurement.h"

namespace kvlab::experiments::decode_speed_kind {

/// The figures of one arm at one depth.
struct Timing {
  std::vector<double> ms;     ///< per block
  std::vector<double> share;  ///< of the bandwidth floor, per block
  double contended = 0;       ///< share of runs that lost a core in every step
};

/// Arms are numbered as in the config. All references must outlive the findings.
class Findings {
 public:
  Findings(const SpeedConfig& config, const std::vector<CaseResult>& cases)
      : config_(config), cases_(cases) {}

  const SpeedConfig& config() const { return config_; }
  const std::vector<CaseResult>& cases() const { return cases_; }
  size_t control() const { return config_.control; }
  const std::string& name(size_t arm) const { return config_.arms[arm].name; }

  /// Speed is shown only for arms that ran and passed their gate.
  bool shown(const DepthResult& at, size_t arm) const;

  Timing timing(const CaseResult& one, const DepthResult& at, size_t arm) const;
  StepBytes step_bytes(const CaseResult& one, const ArmAtDepth& arm) const;

  /// Time of the arm over the control's.
  RatioInterval against_control(const CaseResult& one, const DepthResult& at, size_t arm) const;

  /// A cache that keeps nothing: its steps read no entries, and have no floor in their bytes.
  bool recomputes(const ArmAtDepth& arm) const { return arm.kv_bytes == 0; }

  /// Time over the control's, if bytes were all: what is copied is read and written. Says nothing
  /// where one of them recomputes.
  double by_bytes(const CaseResult& one, const DepthResult& at, size_t arm) const;
  bool has_by_bytes(const DepthResult& at, size_t arm) const;

  /// Most of the arm's runs were disturbed.
  bool contended(const CaseResult& one, const DepthResult& at, size_t arm) const;

  /// The fastest arm, where its interval excludes the runner-up.
  std::optional<size_t> clear_winner(const CaseResult& one, const DepthResult& at) const;

  /// The arm that has the control's cache once more: nothing differs, so what its ratio spans is
  /// noise.
  std::optional<size_t> second_control() const;

  /// "control", "equal", "approximate, KL 0.01, top-1 97 %", "NOT EQUAL", "failed".
  std::string equality(const CaseResult& one, const DepthResult& at, size_t arm) const;

  /// "weight", "attention", "overhead", "recomputes" or "not profiled".
  std::string bound(const ArmAtDepth& arm) const;

  /// As `bound`, to stand in a sentence: "weight-bound".
  std::string bound_words(const ArmAtDepth& arm) const;

  /// A file name that tells cases apart.
  std::string file_id(const char* what, const CaseResult& one) const;

 private:
  const SpeedConfig& config_;
  const std::vector<CaseResult>& cases_;
};

}  // namespace kvlab::experiments::decode_speed_kind

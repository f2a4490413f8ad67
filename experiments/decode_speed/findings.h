// What the samples and gates of a run say, before it becomes tables, figures and sentences.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/comparison.h"
#include "kvlab/runtime/memory_floor.h"
#include "speed_measurement.h"

namespace kvlab::experiments::decode_speed_kind {

/// The figures of one arm at one depth, block by block.
struct Timing {
  std::vector<double> ms;     ///< of the median step
  std::vector<double> share;  ///< of the bandwidth floor
};

/// Arms are numbered as in the config. All references must outlive the findings.
class Findings {
 public:
  /// Judges all arms at all depths of all cases, as one family of tests.
  Findings(const SpeedConfig& config, const std::vector<CaseResult>& cases);

  const SpeedConfig& config() const { return config_; }
  const std::vector<CaseResult>& cases() const { return cases_; }
  size_t control() const { return config_.control; }
  const std::string& name(size_t arm) const { return config_.arms[arm].name; }

  /// The control measured a second time: no arm of its own.
  bool is_second_control(size_t arm) const { return config_.again == arm; }

  /// Speed is shown only for arms that ran and passed their gate.
  bool shown(const DepthResult& at, size_t arm) const;

  Timing timing(const CaseResult& one, const DepthResult& at, size_t arm) const;
  StepBytes step_bytes(const CaseResult& one, const ArmAtDepth& arm) const;

  /// Tokens per second of the arm over the control's. Both must be shown.
  RatioInterval speed_ratio(const DepthResult& at, size_t arm) const;

  /// Time of a step over the control's: the same, upside down.
  RatioInterval time_ratio(const DepthResult& at, size_t arm) const;

  /// Nothing for the control, its second measurement, and where either has no speed.
  const Comparison* comparison(const DepthResult& at, size_t arm) const;
  size_t comparisons() const { return comparisons_.size(); }

  /// The control against itself; nothing where it was not measured twice.
  std::optional<RatioInterval> noise(const DepthResult& at) const;

  /// Runs of the arm that something disturbed.
  size_t flagged(const DepthResult& at, size_t arm) const;

  /// A cache that keeps nothing: its steps read no entries, and have no floor in their bytes.
  bool recomputes(const ArmAtDepth& arm) const { return arm.kv_bytes == 0; }

  /// Time over the control's, if bytes were all: what is copied is read and written. Says nothing
  /// where one of them recomputes.
  double by_bytes(const CaseResult& one, const DepthResult& at, size_t arm) const;
  bool has_by_bytes(const DepthResult& at, size_t arm) const;

  /// The fastest arm, where its interval excludes the runner-up.
  std::optional<size_t> clear_winner(const DepthResult& at) const;

  /// "exact, control", "exact, equal", "exact, NOT EQUAL", "approximate, KL 0.01, top-1 97 %",
  /// "failed", or why it was left out.
  std::string equality(const CaseResult& one, const DepthResult& at, size_t arm) const;

  /// The largest part of a step's time: "weight", "attention", "overhead", or "not profiled"; of a
  /// cache that keeps nothing "weight, recomputes".
  std::string bound(const ArmAtDepth& arm) const;

  /// As `bound`, to stand in a sentence: "weight-bound".
  std::string bound_words(const ArmAtDepth& arm) const;

  /// A file name that tells cases apart.
  std::string file_id(const char* what, const CaseResult& one) const;

 private:
  PairedSpeeds paired(const DepthResult& at, size_t arm, size_t against) const;
  void compare();

  const SpeedConfig& config_;
  const std::vector<CaseResult>& cases_;
  std::map<const ArmAtDepth*, Comparison> comparisons_;
  std::map<const DepthResult*, RatioInterval> noise_;
};

}  // namespace kvlab::experiments::decode_speed_kind

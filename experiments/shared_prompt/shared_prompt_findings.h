// What the runs and gates say, before it becomes tables, figures and sentences.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/comparison_text.h"
#include "shared_prompt_experiment.h"

namespace kvlab::experiments::shared_prompt_kind {

/// A figure of a run.
using Of = std::function<double(const Sample&)>;

double first_ms(const Sample& sample);  ///< until the last row has its first token

/// Arms are numbered as in the config. All references must outlive the findings.
class Findings {
 public:
  /// Judges all variants, as one family of tests.
  Findings(const SharedPromptConfig& config, const Measured& measured);

  const SharedPromptConfig& config() const { return config_; }
  const std::vector<ArmState>& arms() const { return measured_.arms; }
  size_t control() const { return measured_.control; }
  const std::string& control_name() const { return config_.shared.control; }
  int suspended() const { return measured_.suspended; }
  size_t blocks() const { return blocks_; }

  /// Those whose arm ran, in the order of the config.
  const std::vector<const Variant*>& variants() const { return variants_; }
  const Variant* find(size_t arm, Mode mode) const;
  const ArmState& arm(const Variant& variant) const { return measured_.arms[variant.arm]; }
  const std::string& name(const Variant& variant) const { return arm(variant).config.name; }
  bool is_second_control(size_t arm) const { return again_ == arm; }

  /// Exact arms in fp32 say what they must; others are not judged.
  bool judged(size_t arm) const;
  bool judged_by_control(size_t arm) const;
  bool passed(size_t arm) const;

  /// By the time until all rows have their first token: the arm's forks against its own prefill.
  /// Nothing for the second control, and for arms that did not pass.
  const Comparison* fork_gain(size_t arm) const;
  /// By tokens per second end to end: against the control in the same mode. Nothing for the control.
  const Comparison* beside_control(const Variant& variant) const;
  const std::vector<NamedComparison>& made() const { return made_; }

  /// The control against itself; nothing where it was not measured twice.
  std::optional<RatioInterval> first_token_noise() const { return first_noise_; }
  std::optional<RatioInterval> speed_noise(Mode mode) const;

  std::vector<double> values(const Variant& variant, const Of& of) const;
  double middle(const Variant& variant, const Of& of) const;
  int64_t contended(const Variant& variant) const;

  /// What a cache that keeps its entries feeds: the prompt once or in every row, then what was sampled.
  int64_t expected_forwards(const Variant& variant) const;

 private:
  PairedSpeeds paired(const Variant& variant, const Variant& against, const Of& speed) const;
  std::optional<RatioInterval> noise(Mode mode, const Of& speed) const;
  void compare();

  const SharedPromptConfig& config_;
  const Measured& measured_;
  std::vector<const Variant*> variants_;
  size_t blocks_ = 0;  // in which every shown variant ran
  std::optional<size_t> again_;
  std::optional<RatioInterval> first_noise_;
  std::array<std::optional<RatioInterval>, 2> speed_noise_;               // [mode]
  std::vector<std::optional<Comparison>> gains_;                          // [arm]
  std::vector<std::array<std::optional<Comparison>, 2>> beside_control_;  // [arm][mode]
  std::vector<NamedComparison> made_;
};

}  // namespace kvlab::experiments::shared_prompt_kind

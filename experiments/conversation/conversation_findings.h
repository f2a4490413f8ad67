// What the runs of a conversation say, before they become tables, figures and sentences.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "conversation_experiment.h"
#include "kvlab/runtime/comparison_text.h"

namespace kvlab::experiments::conversation_kind {

/// A figure of a whole conversation.
using Of = std::function<double(const Turns&)>;

double first_ms(const Turn& turn);              ///< until the answer's first token
double tokens_per_second(const Turns& turns);  ///< of all answers, over all that was fed for them

/// Arms and turns are numbered as in the config. All references must outlive the findings.
class Findings {
 public:
  /// Judges all arms, modes and turns, as one family of tests.
  Findings(const ConversationConfig& config, const std::vector<ArmState>& arms, size_t control);

  const ConversationConfig& config() const { return config_; }
  const std::vector<ArmState>& arms() const { return arms_; }
  size_t control() const { return control_; }
  const std::string& name(size_t arm) const { return arms_[arm].config.name; }
  size_t turns() const { return config_.turns.size(); }
  size_t blocks() const { return blocks_; }
  const std::vector<Turns>& runs(size_t arm, Mode mode) const {
    return arms_[arm].runs[mode_index(mode)];
  }

  bool ran(size_t arm) const { return !arms_[arm].failure && blocks_ > 0; }
  /// Speeds are given only for arms whose answers are what they must be.
  bool shown(size_t arm) const { return ran(arm) && arms_[arm].equal; }
  bool is_second_control(size_t arm) const { return again_ == arm; }

  /// By the time to the first token of an answer: the kept cache against the arm's own refed one.
  const Comparison* keeping(size_t arm, size_t turn) const;
  /// By tokens per second of the whole conversation: against the control in the same mode.
  const Comparison* beside_control(size_t arm, Mode mode) const;
  const std::vector<NamedComparison>& made() const { return made_; }

  /// The control against itself, refed; nothing where it was not measured twice.
  std::optional<RatioInterval> first_token_noise(size_t turn) const;
  std::optional<RatioInterval> speed_noise(Mode mode) const;

  std::vector<double> values(size_t arm, Mode mode, const Of& of) const;
  std::vector<double> first_times(size_t arm, Mode mode, size_t turn) const;
  int64_t contended(size_t arm, Mode mode, size_t turn) const;
  /// Conversations with a disturbed turn.
  int64_t contended(size_t arm, Mode mode) const;

 private:
  std::optional<RatioInterval> noise(Mode mode, const Of& speed) const;
  void compare();

  const ConversationConfig& config_;
  const std::vector<ArmState>& arms_;
  size_t control_;
  size_t blocks_ = 0;  // in which every arm ran in both modes
  std::optional<size_t> again_;
  std::vector<std::vector<std::optional<Comparison>>> keeping_;         // [arm][turn]
  std::vector<std::vector<std::optional<Comparison>>> beside_control_;  // [arm][mode]
  std::vector<NamedComparison> made_;
};

}  // namespace kvlab::experiments::conversation_kind

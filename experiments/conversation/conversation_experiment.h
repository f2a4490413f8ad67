// A conversation of several turns, with the cache kept between them and with everything fed again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/arm_trials.h"
#include "kvlab/runtime/contention.h"
#include "kvlab/runtime/equality.h"
#include "kvlab/runtime/experiment.h"

namespace kvlab::experiments::conversation_kind {

/// What happens to the cache between two turns.
enum class Mode {
  kept,  ///< it stays; only what is new is fed
  refed  ///< it is emptied; the whole conversation is fed again
};
inline constexpr Mode kModes[] = {Mode::kept, Mode::refed};
const char* mode_name(Mode mode);
inline size_t mode_index(Mode mode) { return static_cast<size_t>(mode); }

/// One answer.
struct Turn {
  int64_t text_tokens = 0;  ///< of the conversation when the answer starts
  int64_t token_forwards = 0;
  int64_t ttft_ns = 0, decode_ns = 0;
  int64_t payload = 0, reserved = 0;  ///< bytes at the end of the turn
  Contention contention;
  std::vector<int32_t> answer;
};

using Turns = std::vector<Turn>;

/// Logits that answers were chosen from, per turn and token.
using AnswerLogits = std::vector<std::vector<std::vector<float>>>;

/// Everything a run needs, read and checked.
struct ConversationConfig {
  ComparisonConfig shared;  ///< with the second control among its arms, where there is one
  ArmTrials trials;
  std::vector<std::vector<int32_t>> turns;  ///< what the other side says, in tokens
  int64_t new_tokens = 0;                   ///< of each answer
  SamplerConfig sampler;

  int64_t longest_text() const;
  /// The control measured a second time, under another name.
  bool is_second_control(const ArmConfig& arm) const;
};

struct ArmState {
  ArmConfig config;
  CacheTraits traits;
  const Model* model = nullptr;
  bool gated = false;  ///< arm and control are exact, in fp32: their answers must be equal
  bool equal = true;   ///< they were, where that was looked at
  std::optional<std::string> failure;
  std::vector<Turns> runs[2];  ///< by mode, one per block
};

class ConversationExperiment : public Experiment {
 public:
  /// Reads model, arms, control, runtime, measure and workload. Throws UserError.
  ConversationExperiment(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;
  uint64_t seed() const override { return config_.sampler.seed; }

 private:
  Turns converse(const Registry& registry, const ArmState& arm, Mode mode,
                 AnswerLogits* logits) const;
  void gate(RunContext& context, std::vector<ArmState>& arms, size_t control,
            ExperimentResult& outcome) const;
  void measure(RunContext& context, std::vector<ArmState>& arms) const;
  std::vector<int64_t> expected_forwards(const ArmState& arm, Mode mode) const;

  ConversationConfig config_;
};

}  // namespace kvlab::experiments::conversation_kind

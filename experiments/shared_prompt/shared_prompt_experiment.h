// One prompt, many sampled continuations, with and without forking the prompt's cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "continuations.h"
#include "kvlab/runtime/arm_trials.h"
#include "kvlab/runtime/contention.h"
#include "kvlab/runtime/experiment.h"

namespace kvlab::experiments::shared_prompt_kind {

/// How the rows come by the prompt.
enum class Mode {
  forked,   ///< fed once, then forked
  prefill,  ///< every row feeds it for itself
};
const char* mode_name(Mode mode);  ///< "fork" or "prefill"

/// Everything a run needs, read and checked.
struct SharedPromptConfig {
  ComparisonConfig shared;  ///< with the second control among its arms, where there is one
  ArmTrials trials;
  std::vector<int32_t> prompt;
  int64_t continuations = 8;
  int64_t new_tokens = 32;
  int64_t gate_tokens = 16;  ///< of each row, whose logits the gate compares
  SamplerConfig sampler;

  int64_t prompt_tokens() const { return static_cast<int64_t>(prompt.size()); }
  int64_t longest_text() const { return prompt_tokens() + new_tokens - 1; }
  /// The control measured a second time, under another name.
  bool is_second_control(const ArmConfig& arm) const;
};

/// One run of one variant.
struct Sample {
  GenerateResult result;
  Contention contention;

  int64_t total_ns() const { return result.ttft_ns + result.decode_ns(); }
  /// Generated tokens of all rows per second, prompt included.
  double tokens_per_second() const;
};

/// One arm in one mode.
struct Variant {
  size_t arm = 0;
  Mode mode = Mode::forked;
  std::vector<Sample> runs;  ///< one per block
};

struct ArmState {
  ArmConfig config;
  CacheTraits traits;
  const Model* model = nullptr;
  bool full_precision = false;  ///< fp32 throughout
  std::optional<std::string> failure;
  std::optional<ContinuationComparison> fork;     ///< fork against prefill, same cache
  std::optional<ContinuationComparison> control;  ///< fork against the control's prefill
};

/// What was measured.
struct Measured {
  std::vector<ArmState> arms;  ///< as in the config
  size_t control = 0;          ///< among them
  std::vector<Variant> variants;
  int suspended = 0;  ///< blocks left out because the process stood still in them
};

class SharedPromptExperiment : public Experiment {
 public:
  /// Reads model, arms, control, runtime, measure and workload; refuses caches that do not fork.
  /// Throws UserError.
  SharedPromptExperiment(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;
  uint64_t seed() const override { return config_.sampler.seed; }

 private:
  Sample generate_once(const Registry& registry, const ArmState& arm, Mode mode,
                       Continuations* record) const;
  void gate(RunContext& context, Measured& measured) const;
  void measure(RunContext& context, Measured& measured) const;

  SharedPromptConfig config_;
};

}  // namespace kvlab::experiments::shared_prompt_kind

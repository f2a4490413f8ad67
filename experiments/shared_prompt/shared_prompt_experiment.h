// One prompt, many sampled continuations, with and without forking the prompt's cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvlab/runtime/equality.h"
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
  ModelSource model;
  std::vector<ArmConfig> arms;
  std::string control;  ///< an arm; the control is its `prefill` mode
  RuntimeConfig runtime;
  MeasureConfig measure;
  std::vector<int32_t> prompt;
  int64_t continuations = 8;
  int64_t new_tokens = 32;
  int64_t gate_tokens = 16;  ///< of each row, whose logits the gate compares
  SamplerConfig sampler;

  int64_t prompt_tokens() const { return static_cast<int64_t>(prompt.size()); }
  int64_t longest_text() const { return prompt_tokens() + new_tokens - 1; }
};

/// One arm in one mode.
struct Variant {
  size_t arm = 0;
  Mode mode = Mode::forked;
  std::vector<GenerateResult> runs;  ///< one per block
};

/// What a continuation is chosen from, for comparisons.
struct Continuations {
  std::vector<std::vector<int32_t>> tokens;             ///< per row
  std::vector<std::vector<std::vector<float>>> logits;  ///< per row and token, the first few
};

/// How alike two ways to the same continuations are.
struct ContinuationComparison {
  int64_t rows = 0, equal_rows = 0;
  int64_t unexplained = 0;  ///< rows that part where no compared logits say why
  LogitComparison logits;   ///< up to where texts part

  /// Every logit within the fp32 tolerance, and texts equal but where rounding decides a draw.
  bool equal() const;
  std::string describe() const;
};
ContinuationComparison compare(const Continuations& wanted, const Continuations& found);

struct ArmState {
  ArmConfig config;
  CacheTraits traits;
  const Model* model = nullptr;
  bool full_precision = false;  ///< fp32 throughout
  std::optional<std::string> failure;
  std::optional<ContinuationComparison> fork;     ///< fork against prefill, same cache
  std::optional<ContinuationComparison> control;  ///< fork against the control's prefill
};

class SharedPromptExperiment : public Experiment {
 public:
  /// Reads model, arms, control, runtime, measure and workload; refuses caches that do not fork.
  /// Throws UserError.
  SharedPromptExperiment(ExperimentConfig& config, const Registry& registry);

  ExperimentResult run(RunContext& context) override;
  uint64_t seed() const override { return config_.sampler.seed; }

 private:
  GenerateResult generate_once(const Registry& registry, const ArmState& arm, Mode mode,
                               Continuations* record) const;
  void gate(RunContext& context, std::vector<ArmState>& arms, size_t control) const;
  void measure(RunContext& context, std::vector<ArmState>& arms,
               std::vector<Variant>& variants) const;

  SharedPromptConfig config_;
};

}  // namespace kvlab::experiments::shared_prompt_kind

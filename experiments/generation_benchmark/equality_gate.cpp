#include "equality_gate.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/core/error.h"

namespace kvlab::experiments {

namespace {

// The control's own continuation: what the arms will be asked to compute.
std::vector<std::vector<int32_t>> gate_texts(const BenchmarkConfig& config, const Case& one,
                                             const ReadyArm& control, const Registry& registry) {
  const int64_t wanted = std::min(control.model->config().context,
                                  std::max(config.workload.gate_tokens, one.prompt_length + 2));
  const int64_t continued = std::min(wanted, one.prompt_length + config.workload.longest_output());
  const int64_t longest = std::max(continued, one.prompt_length);
  GenerateOptions generation;
  generation.new_tokens = std::max<int64_t>(1, continued - one.prompt_length);
  generation.sampler = config.workload.sampler;
  generation.overflow = OverflowPolicy::stop;
  Session session(*control.model, registry,
                  arm_session_options(config.shared.runtime, control.config, one.batch, longest));
  const GenerateResult result = generate(session, one.prompts, generation);
  std::vector<std::vector<int32_t>> texts = one.prompts;
  for (size_t row = 0; row < texts.size(); ++row) {
    texts[row].insert(texts[row].end(), result.tokens[row].begin(), result.tokens[row].end());
    if (static_cast<int64_t>(texts[row].size()) > wanted) {
      texts[row].resize(static_cast<size_t>(wanted));
    }
  }
  return texts;
}

ReportCheck fp32_check(const ReadyArm& arm, const std::string& what,
                       const LogitComparison& distance) {
  return {arm.config.name,
          fmt::format("equal to the control, {}, tolerance {:.0e}", what, kEqualityTolerance),
          distance.equal(), distance.describe()};
}

}  // namespace

EqualityGate::EqualityGate(const BenchmarkConfig& config, const Case& one, const ReadyArm& control,
                           const Registry& registry)
    : config_(config),
      registry_(registry),
      control_(control),
      texts_(gate_texts(config, one, control, registry)) {
  for (const auto& text : texts_) longest_ = std::max(longest_, static_cast<int64_t>(text.size()));
  const RuntimeConfig& runtime = config.shared.runtime;
  full_precision_ = runtime.weights == at::kFloat && runtime.activations == at::kFloat;
  own_ = record(*control_.model, cache_dtype(control_));
  if (full_precision_) return;
  exact_model_ = load_model(config.shared.model, at::kFloat, at::kFloat, control_.config.position);
  exact_ = record(*exact_model_, at::kFloat);
  bf16_divergence_ =
      compare(*exact_, control_, *control_.model, cache_dtype(control_), runtime.chunk).mean_kl;
}

GateResult EqualityGate::judge(const ReadyArm& arm) const {
  const int64_t chunk = config_.shared.runtime.chunk;
  const at::ScalarType dtype = cache_dtype(arm);
  GateResult result;
  result.exact_arm = arm.traits.exact && arm.model == control_.model;
  result.same_numbers = dtype == cache_dtype(control_);
  result.distance = compare(own_, arm, *arm.model, dtype, chunk);
  if (!result.exact_arm) return result;
  if (full_precision_ && dtype == at::kFloat) {
    result.checks.push_back(fp32_check(arm, "prefill as in the run", result.distance));
    result.checks.push_back(
        fp32_check(arm, "token by token", compare(own_, arm, *arm.model, dtype, 1)));
  } else {
    const Model& model = full_precision_ ? *arm.model : *exact_model_;
    const LogitRecord& wanted = full_precision_ ? own_ : *exact_;
    result.checks.push_back(fp32_check(arm, "logic in f32, token by token",
                                       compare(wanted, arm, model, at::kFloat, 1)));
    const double allowed = kBf16DivergenceFactor * bf16_divergence_ + 1e-9;
    if (!full_precision_) {
      result.checks.push_back({arm.config.name,
                               fmt::format("KL to the control in bf16 at most {:.2e}", allowed),
                               result.distance.mean_kl <= allowed, result.distance.describe()});
    }
  }
  for (const ReportCheck& check : result.checks) result.passed = result.passed && check.passed;
  return result;
}

SessionOptions EqualityGate::options(const ReadyArm& arm, at::ScalarType dtype,
                                     int64_t chunk) const {
  SessionOptions made = arm_session_options(config_.shared.runtime, arm.config,
                                            static_cast<int64_t>(texts_.size()), longest_);
  made.cache_dtype = dtype;
  made.chunk = chunk;
  return made;
}

LogitRecord EqualityGate::record(const Model& model, at::ScalarType dtype) const {
  Session session(model, registry_, options(control_, dtype, config_.shared.runtime.chunk));
  return record_logits(session, texts_);
}

LogitComparison EqualityGate::compare(const LogitRecord& control, const ReadyArm& arm,
                                      const Model& model, at::ScalarType dtype,
                                      int64_t chunk) const {
  Session session(model, registry_, options(arm, dtype, chunk));
  return compare_logits(control, session);
}

at::ScalarType EqualityGate::cache_dtype(const ReadyArm& arm) const {
  return arm.config.cache_dtype.value_or(config_.shared.runtime.cache);
}

}  // namespace kvlab::experiments

#include "equality_gate.h"

#include <fmt/format.h>

#include <algorithm>

#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"

namespace kvlab::experiments {

namespace {

// The control's own continuation: what the arms will be asked to compute.
std::vector<std::vector<int32_t>> gate_texts(const BenchmarkConfig& config, const Case& one,
                                             const Arm& control, const Registry& registry) {
  const int64_t wanted =
      std::min(control.model->config().context,
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

class Gate {
 public:
  Gate(const BenchmarkConfig& config, std::vector<std::vector<int32_t>> texts, RunContext& context)
      : config_(config), texts_(std::move(texts)), context_(context) {
    for (const auto& text : texts_) {
      longest_ = std::max(longest_, static_cast<int64_t>(text.size()));
    }
  }

  LogitRecord record(const Arm& arm, const Model& model, at::ScalarType dtype) const {
    Session session(model, context_.registry, options(arm, dtype, config_.shared.runtime.chunk));
    return record_logits(session, texts_);
  }

  LogitComparison compare(const LogitRecord& control, const Arm& arm, const Model& model,
                          at::ScalarType dtype, int64_t chunk) const {
    Session session(model, context_.registry, options(arm, dtype, chunk));
    return compare_logits(control, session);
  }

 private:
  SessionOptions options(const Arm& arm, at::ScalarType dtype, int64_t chunk) const {
    SessionOptions made = arm_session_options(
        config_.shared.runtime, arm.config, static_cast<int64_t>(texts_.size()), longest_);
    made.cache_dtype = dtype;
    made.chunk = chunk;
    return made;
  }

  const BenchmarkConfig& config_;
  std::vector<std::vector<int32_t>> texts_;
  RunContext& context_;
  int64_t longest_ = 0;
};

at::ScalarType cache_dtype(const BenchmarkConfig& config, const Arm& arm) {
  return arm.config.cache_dtype.value_or(config.shared.runtime.cache);
}

ReportCheck fp32_check(const Arm& arm, const std::string& what, const LogitComparison& distance) {
  return {arm.config.name, fmt::format("equal to the control, {}, tolerance {:.0e}", what,
                                       kEqualityTolerance),
          distance.equal(), distance.describe()};
}

}  // namespace

std::vector<GateResult> gate_arms(const BenchmarkConfig& config, const Case& one,
                                  std::vector<Arm>& arms, size_t control, RunContext& context) {
  const Arm& reference = arms[control];
  const Gate gate(config, gate_texts(config, one, reference, context.registry), context);
  const RuntimeConfig& runtime = config.shared.runtime;
  const bool full_precision =
      runtime.weights == at::kFloat && runtime.activations == at::kFloat;

  const LogitRecord own = gate.record(reference, *reference.model, cache_dtype(config, reference));
  // In reduced precision: the same in f32, and how far bf16 alone leads away from it.
  std::optional<Model> exact_model;
  std::optional<LogitRecord> exact;
  double bf16_divergence = 0;
  if (!full_precision) {
    exact_model = load_model(config.shared.model, at::kFloat, at::kFloat,
                             reference.config.position);
    exact = gate.record(reference, *exact_model, at::kFloat);
    bf16_divergence = gate.compare(*exact, reference, *reference.model,
                                   cache_dtype(config, reference), runtime.chunk)
                          .mean_kl;
  }

  std::vector<GateResult> results;
  for (Arm& arm : arms) {
    GateResult result;
    const at::ScalarType dtype = cache_dtype(config, arm);
    const bool same_model = arm.model == reference.model;
    result.exact_arm = arm.traits.exact && same_model;
    result.same_numbers = dtype == cache_dtype(config, reference);
    if (arm.failure) {
      result.passed = false;
      results.push_back(std::move(result));
      continue;
    }
    try {
      context.log << fmt::format("{}: gate {}\n", one.label(), arm.config.name) << std::flush;
      result.distance = gate.compare(own, arm, *arm.model, dtype, runtime.chunk);
      if (result.exact_arm) {
        if (full_precision && dtype == at::kFloat) {
          result.checks.push_back(fp32_check(arm, "prefill as in the run", result.distance));
          result.checks.push_back(fp32_check(
              arm, "token by token", gate.compare(own, arm, *arm.model, dtype, 1)));
        } else {
          const Model& model = full_precision ? *arm.model : *exact_model;
          const LogitRecord& wanted = full_precision ? own : *exact;
          result.checks.push_back(fp32_check(
              arm, "logic in f32, token by token",
              gate.compare(wanted, arm, model, at::kFloat, 1)));
          const double allowed = kBf16DivergenceFactor * bf16_divergence + 1e-9;
          if (!full_precision) {
            result.checks.push_back(
                {arm.config.name, fmt::format("KL to the control in bf16 at most {:.2e}", allowed),
                 result.distance.mean_kl <= allowed, result.distance.describe()});
          }
        }
      }
    } catch (const InterruptedError&) {
      throw;
    } catch (const std::exception& error) {
      arm.failure = fmt::format("{}: {}", one.label(), error.what());
      result.passed = false;
    }
    for (const ReportCheck& check : result.checks) result.passed = result.passed && check.passed;
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace kvlab::experiments

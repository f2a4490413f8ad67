#include <optional>

#include "arm_site.h"
#include "kvlab/runtime/step_bound.h"

namespace kvlab::experiments {

namespace {

class SharedProcess final : public ArmSite {
 public:
  SharedProcess(const BenchmarkConfig& config, size_t control, const Registry& registry)
      : config_(config),
        control_(control),
        registry_(registry),
        models_(config),
        arms_(config.shared.arms.size()) {}

  ModelFacts load(size_t arm) override {
    arms_[arm] = models_.ready(config_.shared.arms[arm], registry_);
    return facts_of(*arms_[arm].model);
  }

  void begin_case(const Case& one, size_t) override {
    case_ = &one;
    gate_.emplace(config_, one, arms_[control_], registry_);
  }

  GateResult gate(size_t arm) override { return gate_->judge(arms_[arm]); }
  Sample run(size_t arm) override { return run_once(config_, *case_, arms_[arm], registry_); }
  std::string trace(size_t arm) override {
    return trace_once(config_, *case_, arms_[arm], registry_);
  }
  void finish(size_t) override {}

 private:
  const BenchmarkConfig& config_;
  size_t control_;
  const Registry& registry_;
  ArmModels models_;
  std::vector<ReadyArm> arms_;
  const Case* case_ = nullptr;
  std::optional<EqualityGate> gate_;
};

}  // namespace

ReadyArm ArmModels::ready(const ArmConfig& arm, const Registry& registry) {
  ReadyArm ready;
  ready.config = arm;
  ready.model = &model_of(arm);
  const SessionOptions options =
      arm_session_options(config_.shared.runtime, arm, 1, ready.model->config().context);
  ready.traits = registry.cache_traits(arm.cache, session_shape(ready.model->config(), options));
  return ready;
}

const Model& ArmModels::model_of(const ArmConfig& arm) {
  const std::string key = arm.position ? to_string(*arm.position) : "";
  const auto found = models_.find(key);
  if (found != models_.end()) return *found->second;
  const RuntimeConfig& runtime = config_.shared.runtime;
  auto model = std::make_unique<Model>(
      load_model(config_.shared.model, runtime.weights, runtime.activations, arm.position));
  return *models_.emplace(key, std::move(model)).first->second;
}

ModelFacts facts_of(const Model& model) {
  return {model.name, model.origin, streamed_weight_bytes(model.decoder->weights())};
}

std::unique_ptr<ArmSite> share_process(const BenchmarkConfig& config, size_t control,
                                       RunContext& context) {
  return std::make_unique<SharedProcess>(config, control, context.registry);
}

}  // namespace kvlab::experiments

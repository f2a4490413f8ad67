#include "generation_benchmark_experiment.h"

#include <algorithm>
#include <map>

#include "benchmark_report.h"
#include "equality_gate.h"
#include "kvlab/core/error.h"
#include "kvlab/runtime/process.h"
#include "measurement.h"

namespace kvlab::experiments {

namespace {

// Loads each model once: arms that replace the position encoding have another one.
class Models {
 public:
  explicit Models(const BenchmarkConfig& config) : config_(config) {}

  const Model& for_arm(const ArmConfig& arm) {
    const std::string key = arm.position ? to_string(*arm.position) : "";
    const auto found = models_.find(key);
    if (found != models_.end()) return *found->second;
    const RuntimeConfig& runtime = config_.shared.runtime;
    auto model = std::make_unique<Model>(load_model(config_.shared.model, runtime.weights,
                                                    runtime.activations, arm.position));
    return *models_.emplace(key, std::move(model)).first->second;
  }

 private:
  const BenchmarkConfig& config_;
  std::map<std::string, std::unique_ptr<Model>> models_;
};

}  // namespace

GenerationBenchmark::GenerationBenchmark(ExperimentConfig& config, const Registry& registry)
    : config_(read_benchmark(config)) {
  const ModelConfig shape = model_shape(config_.shared.model);
  std::string refused;
  for (const ArmConfig& arm : config_.shared.arms) {
    (void)registry.cache_options(arm.cache);
    (void)registry.attention_options(arm.attention.value_or(config_.shared.runtime.attention));
    (void)registry.position_options(arm.position.value_or(shape.position));
    ModelConfig model = shape;
    if (arm.position) model.position = *arm.position;
    // A learned table comes with the weights or is drawn with them.
    const bool table = model.position.type == shape.position.type ||
                       config_.shared.model.type == ModelSourceType::random;
    const int64_t rows = *std::max_element(config_.workload.batch.begin(),
                                           config_.workload.batch.end());
    for (const std::string& reason : incompatibilities(
             model, registry, arm_options(config_, arm, rows, model.context), table)) {
      refused += "\n  - arm '" + arm.name + "': " + reason;
    }
  }
  if (!refused.empty()) config.reader.fail("arms", "these cannot work together:" + refused);
}

ExperimentResult GenerationBenchmark::run(RunContext& context) {
  set_threads(config_.shared.runtime.threads);
  Models models(config_);
  std::vector<Arm> arms;
  size_t control = 0;
  for (const ArmConfig& config : config_.shared.arms) {
    if (config.name == config_.shared.control) control = arms.size();
    Arm arm;
    arm.config = config;
    arm.model = &models.for_arm(config);
    const SessionOptions options = arm_options(config_, config, 1, arm.model->config().context);
    arm.traits = context.registry.cache_traits(config.cache,
                                               session_shape(arm.model->config(), options));
    arms.push_back(std::move(arm));
  }
  const std::vector<Case> cases = make_cases(config_.workload, *arms[control].model);
  for (Arm& arm : arms) arm.samples.resize(cases.size());

  std::vector<CaseResult> results;
  for (size_t i = 0; i < cases.size() && !interrupted(); ++i) {
    CaseResult result;
    result.one = cases[i];
    result.gate = gate_arms(config_, cases[i], arms, control, context);
    KVLAB_CHECK(!arms[control].failure, "[generation_benchmark] the control '",
                arms[control].config.name, "' failed: ", arms[control].failure.value_or(""));
    measure_case(config_, cases[i], i, arms, context);
    results.push_back(std::move(result));
  }
  return make_report(config_, results, arms, control);
}

}  // namespace kvlab::experiments

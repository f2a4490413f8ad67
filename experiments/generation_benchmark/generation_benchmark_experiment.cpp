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
  const std::vector<int64_t>& batch = config_.workload.batch;
  check_arms(config.reader, config_.shared.arms, config_.shared.runtime, config_.shared.model,
             registry, *std::max_element(batch.begin(), batch.end()),
             model_shape(config_.shared.model).context);
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
    const SessionOptions options = arm_session_options(config_.shared.runtime, config, 1,
                                                       arm.model->config().context);
    arm.traits = context.registry.cache_traits(config.cache,
                                               session_shape(arm.model->config(), options));
    arms.push_back(std::move(arm));
  }
  const std::vector<Case> cases = make_cases(config_.workload);
  for (Arm& arm : arms) arm.samples.resize(cases.size());

  std::vector<CaseResult> results;
  for (size_t i = 0; i < cases.size() && !interrupted(); ++i) {
    CaseResult result;
    result.one = cases[i];
    try {
      result.gate = gate_arms(config_, cases[i], arms, control, context);
    } catch (const InterruptedError&) {
      break;  // the cases finished so far are reported
    } catch (const UserError& error) {
      arms[control].failure = cases[i].label() + ": " + error.what();
    }
    if (arms[control].failure) break;  // nothing to compare with
    measure_case(config_, cases[i], i, arms, context);
    results.push_back(std::move(result));
  }
  return make_report(config_, results, arms, control);
}

}  // namespace kvlab::experiments

#include "decode_speed_experiment.h"

#include <algorithm>
#include <optional>

#include "kvlab/runtime/process.h"
#include "speed_measurement.h"
#include "speed_report.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

constexpr Precision kFull;

// f32 comes first: what rounds is judged by it. True in the second place: it is timed as well.
std::vector<std::pair<Precision, bool>> in_order(const std::vector<Precision>& precisions) {
  std::vector<std::pair<Precision, bool>> order = {{kFull, false}};
  for (const Precision& precision : precisions) {
    if (precision.full()) {
      order.front().second = true;
    } else {
      order.emplace_back(precision, true);
    }
  }
  return order;
}

// Gates and measured runs.
int64_t units_of_work(const SpeedConfig& config) {
  const auto arms = static_cast<int64_t>(config.arms.size());
  const int64_t timed_runs = arms * config.measure.repeats;
  int64_t units = 0;
  for (const SpeedModel& model : config.models) {
    const auto depths = static_cast<int64_t>(model.depths.size());
    for (const auto& [precision, timed] : in_order(config.precisions)) {
      const auto batches = static_cast<int64_t>(config.batches.size());
      units += batches * depths * (arms + (timed ? timed_runs : 0));
      if (timed && config.times_prompt(model)) units += timed_runs;
    }
  }
  return units;
}

void run_model(SpeedRun& run, const SpeedModel& speed_model, std::vector<CaseResult>& results) {
  std::optional<Model> model;
  at::ScalarType weights = at::kFloat, activations = at::kFloat;
  LogicTable logic;
  for (const auto& [precision, timed] : in_order(run.config.precisions)) {
    if (!model || precision.weights != weights || precision.activations != activations) {
      model.reset();
      model = load_model(speed_model.source, precision.weights, precision.activations);
      weights = precision.weights;
      activations = precision.activations;
    }
    for (const int64_t batch : run.config.batches) {
      if (interrupted()) return;
      CaseResult result =
          run_case(run, speed_model, *model, precision, batch,
                   timed ? CasePurpose::gate_and_time : CasePurpose::gate_only, logic);
      if (timed) results.push_back(std::move(result));
    }
  }
}

}  // namespace

DecodeSpeed::DecodeSpeed(ExperimentConfig& config, const Registry& registry)
    : config_(read_speed_config(config, registry)) {}

ExperimentResult DecodeSpeed::run(RunContext& context) {
  set_threads(config_.runtime.threads);
  ThreadPool threads(config_.runtime.threads);
  kernels::ReadProbe probe(config_.probe_bytes);
  SpeedRun run{config_, context, threads, probe};
  std::vector<CaseResult> results;
  context.begin_progress(units_of_work(config_));
  try {
    for (const SpeedModel& model : config_.models) run_model(run, model, results);
  } catch (const InterruptedError&) {
    // The cases finished so far are reported.
  }
  return make_report(config_, results);
}

}  // namespace kvlab::experiments::decode_speed_kind
